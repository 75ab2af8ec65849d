"""From the rows of a data set, or from drawn pages, to the packed batches that training takes."""
