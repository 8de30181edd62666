"""Local features of images, their database, matches between them, and retrieval vectors."""
