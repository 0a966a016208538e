-- The connection to another system's file: its schema calls no functions with effects, and it is only read.
PRAGMA trusted_schema = OFF;
PRAGMA query_only = ON;
