// A middleware for net/http that asks authapi whose request it is. Run it: go run verify.go
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

type userID struct{}

var client = &http.Client{
	Timeout:       time.Second,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 100, IdleConnTimeout: 30 * time.Second},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// RequireUser passes on the requests of users, with their id in the context.
func RequireUser(url string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, status := verify(url, r); status == http.StatusOK {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userID{}, id)))
		} else {
			http.Error(w, http.StatusText(status), status)
		}
	})
}

func verify(url string, r *http.Request) (string, int) {
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, nil)
	if err != nil {
		return "", http.StatusServiceUnavailable
	}
	ask.Header["Cookie"], ask.Header["Authorization"] = r.Header["Cookie"], r.Header["Authorization"]
	answer, err := client.Do(ask)
	if err != nil {
		return "", http.StatusServiceUnavailable
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil { // else the connection can be used again
		return "", http.StatusServiceUnavailable
	}
	id := answer.Header.Get("X-Auth-User-Id")
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusOK && id != "" {
		return id, answer.StatusCode
	}
	return "", http.StatusServiceUnavailable
}

func main() {
	url := os.Getenv("AUTHAPI_URL")
	if url == "" {
		url = "http://127.0.0.1:3001"
	}
	welcome := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"user": r.Context().Value(userID{})})
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", RequireUser(url+"/verify", welcome)))
}
