-- The rows that XNovu seeds and syncs, so that a first notification can be sent at once. They are published and active,
-- and belong to no enterprise.
insert into notify.typ_notification_priority (name, code, sort_order, publish_status) values
  ('Low', 'low', 10, 'PUBLISH'),
  ('Medium', 'medium', 20, 'PUBLISH'),
  ('High', 'high', 30, 'PUBLISH'),
  ('Critical', 'critical', 40, 'PUBLISH')
on conflict (code) do nothing;

insert into notify.typ_notification_category (name, code, path, sort_order, publish_status) values
  ('General', 'general', 'general', 10, 'PUBLISH'),
  ('Building', 'building', 'building', 20, 'PUBLISH'),
  ('Fire safety', 'fire-safety', 'building.fire', 30, 'PUBLISH'),
  ('Account', 'account', 'account', 40, 'PUBLISH')
on conflict (code) do nothing;

-- `required` lists the fields that a payload must have. It may have more.
insert into notify.ent_notification_workflow
  (name, workflow_key, workflow_type, publish_status, typ_notification_category_id, default_channels, payload_schema)
select
  seed.name, seed.key, seed.type::shared_types.notification_workflow_type, 'PUBLISH',
  (select id from notify.typ_notification_category where code = seed.category),
  seed.channels::shared_types.notification_channel_type[],
  jsonb_build_object(
    'type', 'object',
    'required', to_jsonb(seed.required),
    'properties', (select coalesce(jsonb_object_agg(field, jsonb_build_object('type', 'string')), '{}')
                   from unnest(seed.required) as field))
from (values
  ('Default e-mail', 'default-email', 'STATIC', 'general', array['EMAIL'], array['subject', 'title', 'message']::text[]),
  ('Default in-app', 'default-in-app', 'STATIC', 'general', array['IN_APP'], array['title', 'message']::text[]),
  ('Default SMS', 'default-sms', 'STATIC', 'general', array['SMS'], array['message']::text[]),
  ('Default push', 'default-push', 'STATIC', 'general', array['PUSH'], array['title', 'message']::text[]),
  ('Default chat', 'default-chat', 'STATIC', 'general', array['CHAT'], array['message']::text[]),
  ('Default multi-channel', 'default-multi-channel', 'STATIC', 'general', array['EMAIL', 'IN_APP', 'SMS', 'PUSH', 'CHAT'],
   array['title', 'message']::text[]),
  ('Default dynamic multi-channel', 'default-dynamic-multi', 'DYNAMIC', 'general', array['EMAIL', 'IN_APP', 'SMS', 'PUSH', 'CHAT'],
   array[]::text[]),
  ('Fire emergency', 'default-fire-emergency', 'STATIC', 'fire-safety', array['SMS', 'PUSH', 'EMAIL', 'IN_APP', 'CHAT'],
   array['emergencyType', 'severity', 'buildingName', 'locationDescription', 'recipientRole', 'alertMessage',
    'evacuationInstructions', 'assemblyPoint', 'emergencyContactName', 'emergencyContactPhone', 'detectedAt',
    'alertId']::text[]),
  ('Fire drill', 'default-fire-drill', 'STATIC', 'fire-safety', array['EMAIL', 'IN_APP', 'SMS', 'PUSH', 'CHAT'],
   array[]::text[]),
  ('Fire inspection', 'default-fire-inspection', 'STATIC', 'fire-safety', array['EMAIL', 'IN_APP', 'SMS', 'PUSH', 'CHAT'],
   array[]::text[]),
  ('Fire maintenance', 'default-fire-maintenance', 'STATIC', 'fire-safety', array['EMAIL', 'IN_APP', 'SMS', 'PUSH'],
   array[]::text[]),
  ('Fire training', 'default-fire-training', 'STATIC', 'fire-safety', array['EMAIL', 'IN_APP', 'PUSH'], array[]::text[]),
  ('Fire assessment', 'default-fire-assessment', 'STATIC', 'fire-safety', array['EMAIL', 'IN_APP'], array[]::text[])
) as seed (name, key, type, category, channels, required)
on conflict (workflow_key) do nothing;
