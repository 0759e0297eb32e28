"""Text towers, and what aligned embeddings are good for: zero-shot classification, retrieval, search."""
