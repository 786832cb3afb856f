-- The time by the store's clock. The gateways' clocks may differ.
CREATE VIEW clock AS SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now;
