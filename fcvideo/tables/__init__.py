"""The embedding tables: schema, parts, compaction."""
