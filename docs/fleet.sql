-- What the hosts of a fleet have in common. `samepage fleet` runs these statements in DuckDB; each is one statement of plain SQL for Spark and Trino too,
-- given two relations:
--   fingerprints  the files that `samepage estimate --parquet` wrote; docs/estimate.md has the columns
--   sampling      one row, one_of BIGINT: one content of so many is looked at, by its digest, and figures are scaled up; 1 for all
-- Figures are pages of 4096 bytes. A statement begins with its name. What stands before its line `-- answer` makes sums that may be taken over any part of the
-- digests by itself: `samepage fleet` takes them part by part, so that a part's contents fit into memory, and asks what follows of the sums of all parts.

-- name: hosts
-- What merging would save on each host, within its trust domains.
WITH contents AS (
  SELECT f.host, f.domain, f.digest, COUNT(*) AS copies
  FROM fingerprints f CROSS JOIN sampling s
  WHERE f.reach AND NOT f.zero AND f.digest % s.one_of = 0
  GROUP BY f.host, f.domain, f.digest),
sums AS (
  SELECT c.host, SUM(c.copies * s.one_of) AS part_pages, 0 AS part_zeros, SUM((c.copies - 1) * s.one_of) AS part_saved
  FROM contents c CROSS JOIN sampling s GROUP BY c.host
  UNION ALL
  SELECT host, 0 AS part_pages, COUNT(*) AS part_zeros, COUNT(*) AS part_saved
  FROM fingerprints WHERE reach AND zero GROUP BY host)
-- answer
SELECT host, SUM(part_pages) AS pages, SUM(part_zeros) AS zeros, SUM(part_saved) AS saved
FROM sums GROUP BY host ORDER BY saved DESC, host LIMIT 20;

-- name: images
-- Which programs hold memory that is the same wherever they run: pages on all hosts, different contents among them, hosts that hold one and the same content
-- (at the most), and pages of contents that several hosts hold.
WITH holders AS (
  SELECT f.image, f.digest, f.host, COUNT(*) AS copies
  FROM fingerprints f CROSS JOIN sampling s
  WHERE f.reach AND NOT f.zero AND f.digest % s.one_of = 0
  GROUP BY f.image, f.digest, f.host),
contents AS (
  SELECT image, digest, CAST(SUM(copies) AS BIGINT) AS copies, COUNT(*) AS holders
  FROM holders GROUP BY image, digest),
sums AS (
  SELECT c.image, SUM(c.copies * s.one_of) AS part_pages, SUM(s.one_of) AS part_contents, MAX(c.holders) AS part_hosts,
    SUM(CASE WHEN c.holders > 1 THEN c.copies * s.one_of ELSE 0 END) AS part_shared
  FROM contents c CROSS JOIN sampling s GROUP BY c.image)
-- answer
SELECT image, SUM(part_pages) AS pages, SUM(part_contents) AS contents, MAX(part_hosts) AS hosts, SUM(part_shared) AS on_several_hosts
FROM sums GROUP BY image ORDER BY on_several_hosts DESC, image LIMIT 20;

-- name: workloads
-- Which workloads of different names have contents in common; from one content of 16 of those that are looked at.
WITH contents AS (
  SELECT f.workload, f.digest
  FROM fingerprints f CROSS JOIN sampling s
  WHERE f.reach AND NOT f.zero AND f.digest % (16 * s.one_of) = 0
  GROUP BY f.workload, f.digest),
sums AS (
  SELECT a.workload AS one, b.workload AS other, SUM(16 * s.one_of) AS part_contents
  FROM contents a JOIN contents b ON a.digest = b.digest AND a.workload < b.workload CROSS JOIN sampling s
  GROUP BY a.workload, b.workload)
-- answer
SELECT one, other, SUM(part_contents) AS contents
FROM sums GROUP BY one, other ORDER BY contents DESC, one, other LIMIT 20;

-- name: together
-- Which hosts to put together: contents of one trust domain that both hold, each of which would be held once; from one content of 64 of those that are looked at.
WITH contents AS (
  SELECT f.host, f.domain, f.digest
  FROM fingerprints f CROSS JOIN sampling s
  WHERE f.reach AND NOT f.zero AND f.digest % (64 * s.one_of) = 0
  GROUP BY f.host, f.domain, f.digest),
sums AS (
  SELECT a.host AS one, b.host AS other, SUM(64 * s.one_of) AS part_saved
  FROM contents a JOIN contents b ON a.digest = b.digest AND a.domain = b.domain AND a.host < b.host CROSS JOIN sampling s
  GROUP BY a.host, b.host)
-- answer
SELECT one, other, SUM(part_saved) AS saved
FROM sums GROUP BY one, other ORDER BY saved DESC, one, other LIMIT 20;
