"""Output of general-circulation models as cubes of variable, time, level, latitude and longitude."""
