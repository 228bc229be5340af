package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// lockTimeout is how long a second server waits for the first one's locks.
const lockTimeout = time.Second

type server struct {
	l      layout
	config *ocConfig
	idm    *bolt.DB

	mu    sync.Mutex // guards index
	index *index
}

// serve runs the server until SIGTERM or SIGINT.
func serve(l layout) (err error) {
	if _, on := quirk(l, "fail-start"); on {
		return errors.New("told to fail")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	event("start")
	defer func() {
		if err != nil {
			event("fail")
		}
	}()

	s := &server{l: l}
	if s.config, err = loadConfig(l); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.idm), 0o700); err != nil {
		return err
	}
	if s.idm, err = bolt.Open(l.idm, 0o600, &bolt.Options{Timeout: lockTimeout}); err != nil {
		return fmt.Errorf("%s: %w", l.idm, err)
	}
	if err := s.rememberPasswords(); err != nil {
		return err
	}
	if s.index, err = openIndex(l.index); err != nil {
		return fmt.Errorf("search: %w", err)
	}
	if err := l.seedSpaces(s.config.AdminUserID); err != nil {
		return err
	}
	l.assimilate()
	var w *writer
	if env("STANDIN_WRITE", "1") != "0" {
		if w, err = newWriter(l); err != nil {
			return err
		}
	}
	if quirkDelay(l, "slow-start", stop) {
		return s.close()
	}
	if err := s.listen(); err != nil {
		return err
	}
	event("ready")

	var tick <-chan time.Time
	if w != nil {
		tick = time.Tick(interval)
	}
	for {
		select {
		case <-tick:
			if err := w.write(); err != nil && !errors.Is(err, errUpload) {
				return err
			}
		case <-stop:
			if _, on := quirk(l, "ignore-term"); on {
				event("ignored-term")
				continue
			}
			quirkDelay(l, "slow-stop", nil)
			return s.close()
		}
	}
}

func (s *server) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(s.index.db.Close(), s.idm.Close())
	event("stop")
	return err
}

func (s *server) listen() error {
	web, err := tlsListener(s.l.proxyAddr, filepath.Join(s.l.data, "proxy/server"))
	if err != nil {
		return err
	}
	ldaps, err := tlsListener(s.l.ldapsAddr, filepath.Join(s.l.data, "idm/ldap"))
	if err != nil {
		return err
	}
	debug, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.l.debugAddr)
	if err != nil {
		return err
	}
	go func() { _ = newHTTPServer(s.web()).Serve(web) }()
	go func() { _ = newHTTPServer(s.debug()).Serve(debug) }()
	go s.serveLDAP(ldaps)
	return nil
}

func newHTTPServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
}

// The passwords that idm.boltdb holds are those of its first start. When the
// configuration is made anew later, the two no longer belong together: the
// server starts and answers, and nobody can log in.

var passwordBucket = []byte("standin")

func (c *ocConfig) passwords() map[string]string {
	p := c.IDM.Passwords
	return map[string]string{"admin": p.Admin, "libregraph": p.IDM, "reva": p.Reva, "idp": p.IDP}
}

func (s *server) rememberPasswords() error {
	return s.idm.Update(func(tx *bolt.Tx) error {
		if tx.Bucket(passwordBucket) != nil {
			return nil
		}
		b, err := tx.CreateBucket(passwordBucket)
		for user, password := range s.config.passwords() {
			if err == nil {
				err = b.Put([]byte(user), []byte(hashHex([]byte(password))))
			}
		}
		return err
	})
}

// knows tells whether this is the password that idm.boltdb remembers.
func (s *server) knows(user, password string) (ok bool) {
	_ = s.idm.View(func(tx *bolt.Tx) error {
		want := tx.Bucket(passwordBucket).Get([]byte(user))
		ok = want != nil && subtle.ConstantTimeCompare(want, []byte(hashHex([]byte(password)))) == 1
		return nil
	})
	return ok
}

// canLogIn tells whether configuration and idm belong together.
func (s *server) canLogIn() bool {
	return s.knows("libregraph", s.config.IDM.Passwords.IDM)
}

// tlsListener listens with the certificate base.crt, base.key, made when absent.
func tlsListener(addr, base string) (net.Listener, error) {
	cert, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	if err != nil {
		if cert, err = newCertificate(base); err != nil {
			return nil, err
		}
	}
	return tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
}

func newCertificate(base string) (tls.Certificate, error) {
	var none tls.Certificate
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Organization: []string{"standin"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return none, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, err
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := errors.Join(replaceFile(base+".crt", crt), replaceFile(base+".key", secret)); err != nil {
		return none, err
	}
	return tls.X509KeyPair(crt, secret)
}

// event appends to the log $STANDIN_EVENTS, by which a test sees what was
// started and stopped: "<time> <event> <pid>" a line.
func event(name string) {
	path := os.Getenv("STANDIN_EVENTS")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, "standin: events:", err)
		return
	}
	_, _ = fmt.Fprintf(f, "%s %s %d\n", now(), name, os.Getpid())
	_ = f.Close()
}
