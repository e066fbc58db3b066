"""What is on disk: JSON Schemas, the records they describe, and the data set folder."""
