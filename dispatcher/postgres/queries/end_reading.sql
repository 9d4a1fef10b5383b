-- Says that a try which reads these rows has not died of it. If reading failed (`read` is false), they stay suspects.
update dispatcher.delivery d
set reading_deaths = null, reading_since = case when not %(read)s then d.reading_since end
from {leased_rows}
where d.notification_id = v.id and d.fence = v.fence
