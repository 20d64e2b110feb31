"""Submit, map, graphs and futures, from any application on Linux or Windows."""
