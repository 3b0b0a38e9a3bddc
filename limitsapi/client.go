// Package limitsapi asks a provider what it grants: Anthropic's Rate Limits API, which
// an organisation's admin key opens. A [Keeper] asks at the start and every hour. What it
// cannot find out changes nothing, and nothing waits for it.
//
// The key is sent as a header to the one address that was given, and nowhere else: it is
// not part of any error, and redirects are not followed.
package limitsapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/weir-project/weir/provider"
)

// DefaultBase is where Anthropic answers.
const DefaultBase = "https://api.anthropic.com"

// The bounds of what is read.
const (
	// MaxPageBytes bounds one page.
	MaxPageBytes = 1 << 20
	// MaxPages bounds the pages of one answer.
	MaxPages = 100
	// Timeout bounds the reading of all of them.
	Timeout = 10 * time.Second
	// maxClasses bounds the classes of models on all pages: each is a quota.
	maxClasses = 256
)

// Client reads what one organisation is granted. It is safe for concurrent use.
type Client struct {
	address *url.URL
	key     string
	http    *http.Client
}

// New returns a client of the API at base (empty: DefaultBase), with an admin key. The
// error says what is wrong with base: the key is not sent in plain text, except to this
// machine. transport is nil for an ordinary one.
func New(base, key string, transport http.RoundTripper) (*Client, error) {
	if base == "" {
		base = DefaultBase
	}
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the base URL is none, expected one such as " + DefaultBase)
	case u.Scheme == "http" && !local(u.Hostname()):
		return nil, errors.New("the base URL is http, expected https: an admin key is not sent in plain text to another machine")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &Client{
		address: u.JoinPath("v1/organizations/rate_limits"), key: key,
		http: &http.Client{
			Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // the key would go along
			},
		},
	}, nil
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Granted reads all pages, in Timeout at most. The error quotes neither the key nor what
// was answered.
func (c *Client) Granted(ctx context.Context) ([]provider.Granted, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	var all []provider.Granted
	cursor := ""
	for range MaxPages {
		page, err := c.page(ctx, cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Granted...)
		if len(all) > maxClasses {
			return nil, fmt.Errorf("more than %d classes of models", maxClasses)
		}
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
	return nil, fmt.Errorf("more than %d pages", MaxPages)
}

func (c *Client) page(ctx context.Context, cursor string) (provider.GrantedPage, error) {
	var none provider.GrantedPage
	at := *c.address
	query := at.Query()
	query.Set("group_type", "model_group")
	if cursor != "" {
		query.Set("page", cursor)
	}
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return none, errors.New("the request cannot be made")
	}
	req.Header.Set("x-api-key", c.key)
	req.Header.Set("anthropic-version", "2023-06-01")
	res, err := c.http.Do(req)
	if err != nil {
		return none, unreached(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return none, refused(res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, MaxPageBytes+1))
	if err != nil {
		return none, unreached(err)
	}
	if len(body) > MaxPageBytes {
		return none, fmt.Errorf("a page of more than %d bytes", MaxPageBytes)
	}
	return provider.ParseAnthropicLimits(body)
}

// unreached says why there is no answer. The text of the error itself has the address in
// it, and with it whatever somebody put there.
func unreached(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("no answer: %s: %w", op.Op, op.Err)
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("no answer: %w", bad.Err)
	}
	return errors.New("no answer: the connection failed")
}

func refused(status int) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("status %d: the key is not accepted, expected an admin key", status)
	}
	return fmt.Errorf("status %d", status)
}
