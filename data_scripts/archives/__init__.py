"""Archives: endpoint, query, licence and schema of each source."""
