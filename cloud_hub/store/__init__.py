"""SQLAlchemy Core tables and queries; content-addressed blobs."""
