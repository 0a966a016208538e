-- What every new connection is asked: the server's clock, in seconds since the epoch.
SELECT CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION);
