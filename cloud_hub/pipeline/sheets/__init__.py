"""The parts of a datasheet: what is measured of samples, and how it is drawn. Nothing here loads torch."""
