//! What apps print: from their pipes to files, and from files to people.
