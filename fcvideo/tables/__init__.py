"""The embedding tables: schema, atomic parts, compaction."""
