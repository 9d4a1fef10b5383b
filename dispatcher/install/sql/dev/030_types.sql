-- The host platform's enums, with their labels in its order.
select shared_types.ensure_enum_values('publish_status', array['NONE', 'DRAFT', 'DISCARD', 'PUBLISH', 'DELETED', 'REVIEW']);
select shared_types.ensure_enum_values('notification_channel_type', array['IN_APP', 'EMAIL', 'SMS', 'CHAT', 'PUSH']);
select shared_types.ensure_enum_values('notification_workflow_type', array['STATIC', 'DYNAMIC']);
select shared_types.ensure_enum_values(
  'notification_status', array['PENDING', 'PROCESSING', 'SENT', 'FAILED', 'RETRACTED']);
