"""What every job runs on: processes, devices, clusters, placement, progress. Knows neither faces nor tables."""
