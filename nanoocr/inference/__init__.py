"""From a trained model to text: engine (batched decoding), sampling, sources (files to pictures), reader."""
