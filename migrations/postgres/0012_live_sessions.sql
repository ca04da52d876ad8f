-- +goose Up

-- A user's live sessions, which logins, lists and ends look for. Those that have ended stay for a while, and may be many. A session
-- is live while it has no reason to have ended. The index says it this way because nothing that finds a session by its ID does: an
-- index on revoked_at IS NULL would serve those statements too, and while the table is empty the planner takes it for as good as the
-- primary key, and keeps to that.
CREATE INDEX sessions_live ON sessions (user_id, created_at) WHERE revoke_reason = '';

-- As in the migration before, and by that index.
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

-- Where the person was who logged in: a session is theirs, not the back end's that redeems the code.
ALTER TABLE authorization_codes ADD COLUMN ip text NOT NULL DEFAULT '';
ALTER TABLE authorization_codes ADD COLUMN user_agent text NOT NULL DEFAULT '';

-- +goose Down

ALTER TABLE authorization_codes DROP COLUMN user_agent;
ALTER TABLE authorization_codes DROP COLUMN ip;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION end_surplus_sessions(of_user text, new_session uuid, now timestamptz, others bigint, reason text, of_client text,
    of_browser bytea)
    RETURNS TABLE (ended uuid, begun timestamptz) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
        UPDATE sessions s SET revoked_at = now, revoke_reason = reason
        WHERE s.id IN (
            SELECT o.id FROM sessions o
            WHERE o.user_id = of_user AND o.id <> new_session AND o.revoked_at IS NULL AND o.idle_expires_at > now AND o.expires_at > now
            ORDER BY COALESCE(o.browser_session = of_browser AND o.client_id = of_client, false), o.rotated_at DESC, o.id DESC
            OFFSET others
        ) AND s.revoked_at IS NULL
        RETURNING s.id, s.created_at;
END
$$;
-- +goose StatementEnd

DROP INDEX sessions_live;
