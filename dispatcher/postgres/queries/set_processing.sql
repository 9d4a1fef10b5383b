update {outbox} n
  -- Remove the note of an earlier retraction, so that the next retraction is detected as well.
  set notification_status = 'PROCESSING', updated_at = now(),
    error_details = case when n.error_details -> 'retraction' is null then n.error_details::jsonb
      else n.error_details::jsonb - 'retraction' end