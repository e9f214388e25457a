"""Chat JSONL to validated records, to a token cache, to packed batches."""
