-- +goose Up

-- How a client's refresh token travels: in the body, which empty means, or in a cookie.
ALTER TABLE clients ADD COLUMN refresh_transport text NOT NULL DEFAULT '';

-- The session that a session was forked from. It has the parent's ends, and ends with it. There is no foreign key: both are swept at the
-- same end, in any order.
ALTER TABLE sessions ADD COLUMN parent_id uuid;
CREATE INDEX sessions_parent_id ON sessions (parent_id) WHERE parent_id IS NOT NULL;

-- As in the migration before, but what was forked does not count, and makes way with its parent.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION end_surplus_sessions(of_user text, new_session uuid, now timestamptz, others bigint, reason text, of_client text,
    of_browser bytea)
    RETURNS TABLE (ended uuid, begun timestamptz) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
        WITH surplus AS (
            SELECT o.id FROM sessions o
            WHERE o.user_id = of_user AND o.revoke_reason = '' AND o.id <> new_session AND o.parent_id IS NULL
                AND o.revoked_at IS NULL AND o.idle_expires_at > now AND o.expires_at > now
            ORDER BY COALESCE(o.browser_session = of_browser AND o.client_id = of_client, false), o.rotated_at DESC, o.id DESC
            OFFSET others
        )
        UPDATE sessions s SET revoked_at = now, revoke_reason = reason
        WHERE s.id = ANY (ARRAY (
            SELECT p.id FROM surplus p UNION ALL
            SELECT f.id FROM surplus p JOIN sessions f ON f.parent_id = p.id AND f.idle_expires_at > now AND f.expires_at > now
        )) AND s.revoked_at IS NULL
        RETURNING s.id, s.created_at;
END
$$;
-- +goose StatementEnd

-- +goose Down

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION end_surplus_sessions(of_user text, new_session uuid, now timestamptz, others bigint, reason text, of_client text,
    of_browser bytea)
    RETURNS TABLE (ended uuid, begun timestamptz) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
        UPDATE sessions s SET revoked_at = now, revoke_reason = reason
        WHERE s.id IN (
            SELECT o.id FROM sessions o
            WHERE o.user_id = of_user AND o.revoke_reason = '' AND o.id <> new_session
                AND o.revoked_at IS NULL AND o.idle_expires_at > now AND o.expires_at > now
            ORDER BY COALESCE(o.browser_session = of_browser AND o.client_id = of_client, false), o.rotated_at DESC, o.id DESC
            OFFSET others
        ) AND s.revoked_at IS NULL
        RETURNING s.id, s.created_at;
END
$$;
-- +goose StatementEnd

DROP INDEX sessions_parent_id;
ALTER TABLE sessions DROP COLUMN parent_id;
ALTER TABLE clients DROP COLUMN refresh_transport;
