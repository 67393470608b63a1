-- What the hosts of a fleet have in common. `samepage fleet` runs these statements in DuckDB; they run unchanged on Spark and Trino,
-- given two relations:
--   fingerprints  the files that `samepage estimate --parquet` wrote; docs/estimate.md has the columns
--   sampling      one row, one_of BIGINT: one content of so many is looked at, by its digest, and figures are scaled up; 1 for all
-- Figures are pages of 4096 bytes. A statement begins with its name.

-- name: hosts
-- What merging would save on each host, within its trust domains.
WITH contents AS (
  SELECT f.host, f.domain, f.digest, MAX(s.one_of) AS one_of, COUNT(*) AS copies
  FROM fingerprints f CROSS JOIN sampling s
  WHERE f.reach AND NOT f.zero AND f.digest % s.one_of = 0
  GROUP BY f.host, f.domain, f.digest),
zeros AS (
  SELECT host, COUNT(*) AS pages FROM fingerprints WHERE reach AND zero GROUP BY host)
SELECT c.host, SUM(c.copies * c.one_of) AS pages, COALESCE(MAX(z.pages), 0) AS zeros,
  SUM((c.copies - 1) * c.one_of) + COALESCE(MAX(z.pages), 0) AS saved
FROM contents c LEFT JOIN zeros z ON z.host = c.host
GROUP BY c.host ORDER BY saved DESC, c.host LIMIT 20;

-- name: images
-- Which programs hold memory that is the same wherever they run: pages on all hosts, different contents among them, hosts.
WITH contents AS (
  SELECT f.image, f.digest, MAX(s.one_of) AS one_of, COUNT(*) AS copies, COUNT(DISTINCT f.host) AS hosts
  FROM fingerprints f CROSS JOIN sampling s
  WHERE f.reach AND NOT f.zero AND f.digest % s.one_of = 0
  GROUP BY f.image, f.digest)
SELECT image, SUM(copies * one_of) AS pages, SUM(one_of) AS contents, MAX(hosts) AS hosts,
  SUM(CASE WHEN hosts > 1 THEN copies * one_of ELSE 0 END) AS on_several_hosts
FROM contents GROUP BY image ORDER BY on_several_hosts DESC, image LIMIT 20;

-- name: workloads
-- Which workloads of different names have contents in common.
WITH contents AS (
  SELECT f.workload, f.digest, MAX(s.one_of) AS one_of
  FROM fingerprints f CROSS JOIN sampling s
  WHERE f.reach AND NOT f.zero AND f.digest % (16 * s.one_of) = 0
  GROUP BY f.workload, f.digest)
SELECT a.workload AS one, b.workload AS other, SUM(16 * a.one_of) AS contents
FROM contents a JOIN contents b ON a.digest = b.digest AND a.workload < b.workload
GROUP BY a.workload, b.workload ORDER BY contents DESC, one, other LIMIT 20;

-- name: together
-- Which hosts to put together: contents of one trust domain that both hold, each of which would be held once.
WITH contents AS (
  SELECT f.host, f.domain, f.digest, MAX(s.one_of) AS one_of
  FROM fingerprints f CROSS JOIN sampling s
  WHERE f.reach AND NOT f.zero AND f.digest % (64 * s.one_of) = 0
  GROUP BY f.host, f.domain, f.digest)
SELECT a.host AS one, b.host AS other, SUM(64 * a.one_of) AS saved
FROM contents a JOIN contents b ON a.digest = b.digest AND a.domain = b.domain AND a.host < b.host
GROUP BY a.host, b.host ORDER BY saved DESC, one, other LIMIT 20;
