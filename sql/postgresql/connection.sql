-- What every new connection is asked: the server's clock, in seconds since the epoch. In the same statement it gets the service's limits, in
-- milliseconds, where the role, the database or the URL sets no shorter ones. (As options of the connect they would take the place of those.)
SELECT CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION),
       count(set_config(limits.name, limits.most, false))
  FROM (VALUES ($1, $2), ($3, $4), ($5, $6)) AS limits (name, most)
  JOIN pg_settings ON pg_settings.name = limits.name
 WHERE CAST(pg_settings.setting AS BIGINT) NOT BETWEEN 1 AND CAST(limits.most AS BIGINT);
