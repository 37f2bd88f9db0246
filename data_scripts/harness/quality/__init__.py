"""How good a table is: scores, gates, agreement between archives, and the report of all three."""
