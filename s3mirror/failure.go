package s3mirror

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/file"

	"github.com/ocbackup/ocbackup/fail"
)

// failure gives an error of a bucket or a pool its exit code and what to do next. what says
// what was done, on what: "list bucket b at http://..."; keys names the key of the
// configuration that holds the credentials. Errors that have a code keep it.
func failure(err error, what, keys string) error {
	var already *fail.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &already), errors.Is(err, context.Canceled):
		return fail.Wrap(fail.CodeOf(err), err, what, "")
	}
	return fail.Wrap(fail.Repository, err, what, hintFor(err, keys))
}

// ownFailure is failure for the files in the state directory.
func ownFailure(err error) error {
	var already *fail.Error
	if err == nil || errors.As(err, &already) {
		return err
	}
	return fail.Wrap(fail.Failed, err, "keep the record of the bucket's objects", "check the state directory (state_dir): its space, and who may write there")
}

// What servers say about keys that they do not accept.
var badKeys = []string{"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "XAdminUserNotFound"}

// hintFor tells what to do about an error.
func hintFor(err error, keys string) string {
	switch code := errorCode(err); {
	case slices.Contains(badKeys, code):
		return "the server does not accept the keys: check " + keys
	case code == "AccessDenied", code == "Forbidden", code == "403":
		return "the keys are known, but may not do this: give their user the right to list, read and (for a pool) write, or check " + keys
	case code == "RequestTimeTooSkewed":
		return "this machine's clock and the server's differ by more than 15 minutes: set the clock (timedatectl)"
	case code == "NoSuchBucket":
		return "there is no such bucket: check its name, or create it"
	case code == "AuthorizationHeaderMalformed":
		return "the server does not accept the region: check it, and " + keys
	case code == "PermanentRedirect":
		return "the bucket is in another region: check the region"
	case code == "SlowDown", code == "ServiceUnavailable", statusCode(err) == http.StatusServiceUnavailable:
		return "the server asks for fewer requests: run it again later, or lower transfers and checkers in [bucket]"
	case statusCode(err) >= http.StatusInternalServerError:
		return "the server has a problem of its own: look at its log, and run it again"
	}
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var netErr net.Error
	switch {
	case diskFull(err):
		return "the disk is full: make room, or delete what no set needs with \"ocbackup bucket expire\""
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "ocbackup may not write there: mount it writable, or run ocbackup as root"
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s is not known on this machine: a name that only containers know? set reach in [bucket]", dns.Name)
	case errors.As(err, &authority), errors.As(err, &hostname):
		return "the server's certificate is not trusted: name its authority with ca_file"
	case errors.Is(err, errSilent), errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &netErr), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "is the server up, and reachable from here?"
	case errors.Is(err, fs.ErrorDirNotFound):
		return "there is no such bucket or directory: check its name, or create it"
	}
	return ""
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, file.ErrDiskFull)
}

// hopeless tells whether what failed for one object will fail for all others.
func hopeless(err error) bool {
	return diskFull(err) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errSilent) ||
		slices.Contains(append([]string{"RequestTimeTooSkewed", "NoSuchBucket", "AuthorizationHeaderMalformed"}, badKeys...), errorCode(err))
}

// again tells whether storing an object may succeed when it is tried again.
func again(err error) bool {
	var read *readError
	var netErr net.Error
	switch status := statusCode(err); {
	case errors.As(err, &read), errors.Is(err, errSilent), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false // reading is tried again where it happens
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return true
	case status >= 400 && status < 500, diskFull(err), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES):
		return false
	case errors.As(err, &netErr) && netErr.Timeout():
		return false // it has lasted long enough
	}
	return true
}
