"""Files in the formats that people have, read into samples one at a time."""
