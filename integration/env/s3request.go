package env

import (
	"net/http"
	"net/url"
	"strings"
)

// The kinds of requests.
const (
	List     = "LIST"     // a page of a bucket's objects
	Get      = "GET"      // an object
	Head     = "HEAD"     // an object
	Put      = "PUT"      // an object, whole
	Copy     = "COPY"     // the server copies an object
	Delete   = "DELETE"   // an object
	Deletes  = "DELETES"  // several objects
	Upload   = "UPLOAD"   // a multipart upload begins
	Part     = "PART"     // a part of it
	Complete = "COMPLETE" // it ends
	Abort    = "ABORT"    // it is given up
	Versions = "VERSIONS" // a page of a bucket's versions
	Bucket   = "BUCKET"   // the bucket itself: HEAD, PUT, and its settings
	Other    = "OTHER"    // the server, and an object's settings
)

// Request is a request of a client.
type Request struct {
	Kind   string
	Method string
	Bucket string
	Key    string // of a List: its prefix
	Query  url.Values
	Status int // of the answer; 0: none yet, or none was given
}

// parse tells what a request asks for.
func parse(r *http.Request) Request {
	q := r.URL.Query()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	out := Request{Kind: Other, Method: r.Method, Bucket: bucket, Key: key, Query: q}
	has := func(name string) bool { return q.Has(name) }
	switch {
	case bucket == "":
	case key != "" && (has("tagging") || has("acl") || has("retention") || has("legal-hold") || has("attributes")):
	case key != "":
		out.Kind = objectKind(r, has)
	case r.Method == http.MethodPost && has("delete"):
		out.Kind = Deletes
	case r.Method == http.MethodGet && has("versions"):
		out.Kind, out.Key = Versions, q.Get("prefix")
	case r.Method == http.MethodGet && (has("list-type") || !has("location") && !has("versioning") && !has("object-lock") && !has("uploads") && !has("acl") && !has("policy")):
		out.Kind, out.Key = List, q.Get("prefix")
	default:
		out.Kind = Bucket
	}
	return out
}

func objectKind(r *http.Request, has func(string) bool) string {
	switch {
	case r.Method == http.MethodPost && has("uploads"):
		return Upload
	case r.Method == http.MethodPost && has("uploadId"):
		return Complete
	case r.Method == http.MethodDelete && has("uploadId"):
		return Abort
	case r.Method == http.MethodPut && has("partNumber"):
		return Part
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return Copy
	case r.Method == http.MethodGet, r.Method == http.MethodHead, r.Method == http.MethodPut, r.Method == http.MethodDelete:
		return r.Method
	}
	return Other
}
