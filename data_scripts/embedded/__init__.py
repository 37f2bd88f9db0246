"""The small table of planets that ships with the package, its loader and the script that makes it."""
