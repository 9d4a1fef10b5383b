-- Each row leaves two dead versions in `delivery` and one in `recipient`. PostgreSQL's default waits until a fifth of a
-- table is dead, and pauses while it vacuums. Here it begins at a fiftieth and does not pause, so that the space of a
-- burst is used again by the next one.
alter table dispatcher.delivery set (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0.05
);
alter table dispatcher.recipient set (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0.05
);
