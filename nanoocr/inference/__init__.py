"""From a trained model to text: engine (batched decoding), sampling, reader."""
