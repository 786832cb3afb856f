-- What is known of each write now: a pending one whose time is over is of unknown fate (2).
CREATE VIEW known AS
SELECT id, request, token, response, began, id_begins, site, method, now, now - began AS age,
    CASE WHEN state = 0 AND until < now THEN 2 ELSE state END AS fate
FROM writes, clock;
