"""Data sets made from archive tables: text records, questions with computed answers."""
