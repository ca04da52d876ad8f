package verifier

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// How the stream is held.
const (
	streamSilence  = 15 * time.Second // three heartbeats; after that the stream is given up
	maxEvent       = 16 << 20         // bytes of one event; what is longer comes by polling
	reconnectFirst = time.Second      // unless the stream says retry
	reconnectLimit = time.Minute
)

// The ends of a stream.
var (
	errReset  = errors.New("blocklist stream: the issuer does not know the cursor")
	errSilent = errors.New("blocklist stream: silent")
)

// listen holds the stream whenever it can be had.
func (f *follower) listen(ctx context.Context) {
	retry := backoff{first: reconnectFirst, limit: reconnectLimit}
	for {
		f.mu.Lock()
		cursor := f.cursor
		f.mu.Unlock()
		if cursor == "" { // poll is fetching a snapshot
			select {
			case <-f.ready:
				continue
			case <-ctx.Done():
				return
			}
		}
		spoke, err := f.stream(ctx, cursor, &retry)
		f.mu.Lock()
		f.live = false
		f.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		f.note(err)
		if errors.Is(err, errReset) {
			f.forget(cursor)
			notify(f.wake)
		} else if spoke {
			retry.reset()
		}
		if _, ok := sleep(ctx, retry.next(), nil); !ok {
			return
		}
	}
}

// stream connects and takes what comes until the connection ends or falls silent. It reports whether anything came.
func (f *follower) stream(ctx context.Context, cursor string, retry *backoff) (spoke bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(streamSilence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), errSilent) {
			err = errSilent
		}
	}()
	m, err := f.remote.metadata(ctx)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, after(m.BlocklistSSE, cursor), nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity") // compression would hold events back
	req.Header.Set("Cache-Control", "no-store")
	resp, err := f.remote.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusGone:
		return false, errReset
	case resp.StatusCode != http.StatusOK:
		return false, &statusError{m.BlocklistSSE, resp.StatusCode}
	case mediaType != "text/event-stream":
		return false, fmt.Errorf("blocklist stream: content type %q", mediaType)
	}
	events := eventReader{r: bufio.NewReaderSize(resp.Body, 4<<10), heard: func() { watchdog.Reset(streamSilence) }}
	for {
		e, err := events.next()
		if err != nil {
			return spoke, fmt.Errorf("blocklist stream: %w", err)
		}
		if e.retry > 0 {
			retry.first = min(max(e.retry, 100*time.Millisecond), reconnectLimit)
		}
		if err := f.event(&e); err != nil {
			return spoke, err
		}
		if !spoke { // nothing on the way holds events back
			spoke = true
			f.mu.Lock()
			f.live = true
			f.mu.Unlock()
			f.note(nil)
			f.report()
		}
	}
}

// event takes one event over.
func (f *follower) event(e *event) error {
	switch e.name {
	case "entries":
		var doc Feed
		if err := json.Unmarshal(e.data, &doc); err != nil {
			return fmt.Errorf("blocklist stream: %w", err)
		}
		return f.take(&doc, time.Now(), false)
	case "heartbeat":
		var beat Heartbeat
		if err := json.Unmarshal(e.data, &beat); err != nil {
			return fmt.Errorf("blocklist stream: %w", err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if e.id != "" && f.cursor != "" {
			f.cursor = e.id
		}
		f.creditAsOf(beat.AsOf, time.Now())
	case "reset":
		return errReset
	}
	return nil // events of other names are for later versions
}

// event is one server-sent event (HTML Living Standard, section 9.2.6).
type event struct {
	name, id string
	data     []byte
	retry    time.Duration
}

// eventReader reads a stream of events whose lines end in LF or CRLF.
type eventReader struct {
	r     *bufio.Reader
	heard func() // called for each piece that arrives
}

// next returns the next event, or one without a name if there was only a retry field.
func (er *eventReader) next() (event, error) {
	var e event
	for size := 0; ; {
		line, err := er.line(maxEvent - size)
		if err != nil {
			return event{}, err
		}
		if size += len(line); len(line) == 0 {
			if e.name != "" || e.retry > 0 {
				return e, nil
			}
			e = event{}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) { // a comment has an empty name
		case "event":
			e.name = string(value)
		case "id":
			e.id = string(value)
		case "data":
			if e.data != nil {
				e.data = append(e.data, '\n')
			}
			e.data = append(e.data, value...)
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				e.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// line returns the next line without its end.
func (er *eventReader) line(limit int) ([]byte, error) {
	var long []byte
	for {
		piece, err := er.r.ReadSlice('\n')
		er.heard()
		if len(long)+len(piece) > limit {
			return nil, fmt.Errorf("an event of more than %d bytes", maxEvent)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, piece...)
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF // a stream ends by breaking off
		case err != nil:
			return nil, err
		default:
			if long != nil {
				piece = append(long, piece...)
			}
			return bytes.TrimSuffix(piece[:len(piece)-1], []byte("\r")), nil
		}
	}
}
