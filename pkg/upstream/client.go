package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/handstamp/handstamp/pkg/egress"
)

// loginTimeout is for all requests of one login.
const loginTimeout = 12 * time.Second

// errNotJSON stands for the decoder's own message, which may quote the text.
var errNotJSON = errors.New("answer is not the JSON document it should be")

// get fetches a JSON document. Errors are statusError, errNotJSON or the client's.
func get(ctx context.Context, client *http.Client, address, bearer string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return egress.ErrURL
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return statusError(response.StatusCode)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || json.Unmarshal(body, into) != nil {
		return errNotJSON
	}
	return nil
}
