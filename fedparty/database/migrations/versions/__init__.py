"""One file a migration, named after its revision; revisions are four digits and compare as text."""
