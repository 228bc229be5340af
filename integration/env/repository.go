package env

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/crypto/poly1305" //nolint:staticcheck // restic's own choice
	"golang.org/x/crypto/scrypt"
)

// resticKey is a file in keys/ of a repository (restic, internal/repository/key.go).
type resticKey struct {
	Created  string `json:"created"`
	Username string `json:"username"`
	Hostname string `json:"hostname"`
	KDF      string `json:"kdf"`
	N        int    `json:"N"`
	R        int    `json:"r"`
	P        int    `json:"p"`
	Salt     []byte `json:"salt"`
	Data     []byte `json:"data"`
}

// CheapenKey replaces the only key of a repository by one that takes fewer rounds: a
// run of ocbackup opens the repository ten times, and restic makes that cost half a
// second each on purpose. Nothing else about the repository is different.
func CheapenKey(repository, password string) error {
	files, err := filepath.Glob(filepath.Join(repository, "keys/*"))
	if err != nil || len(files) != 1 {
		return errors.Join(err, errors.New("not one key"))
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	var k resticKey
	if err := json.Unmarshal(text, &k); err != nil {
		return err
	}
	old, err := k.derive(password)
	if err != nil {
		return err
	}
	plain, err := old.open(k.Data)
	if err != nil {
		return err
	}
	k.N, k.R, k.P = 1024, 8, 1
	cheap, err := k.derive(password)
	if err != nil {
		return err
	}
	if k.Data, err = cheap.seal(plain); err != nil {
		return err
	}
	if text, err = json.Marshal(k); err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	if err := os.Remove(files[0]); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(repository, "keys", hex.EncodeToString(sum[:])), text, 0o600)
}

// sealer is restic's AES-256-CTR with Poly1305-AES (internal/crypto).
type sealer struct{ encrypt, macK, macR []byte }

func (k resticKey) derive(password string) (sealer, error) {
	b, err := scrypt.Key([]byte(password), k.Salt, k.N, k.R, k.P, 64)
	if err != nil {
		return sealer{}, err
	}
	return sealer{b[:32], b[32:48], b[48:]}, nil
}

func (s sealer) mac(nonce, text []byte) (sum [16]byte, err error) {
	var key [32]byte
	copy(key[:16], s.macR)
	for _, i := range []int{3, 7, 11, 15} {
		key[i] &= 15
	}
	for _, i := range []int{4, 8, 12} {
		key[i] &= 252
	}
	block, err := aes.NewCipher(s.macK)
	if err != nil {
		return sum, err
	}
	block.Encrypt(key[16:], nonce)
	poly1305.Sum(&sum, text, &key)
	return sum, nil
}

func (s sealer) crypt(nonce, text []byte) ([]byte, error) {
	block, err := aes.NewCipher(s.encrypt)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(text))
	cipher.NewCTR(block, nonce).XORKeyStream(out, text)
	return out, nil
}

func (s sealer) open(data []byte) ([]byte, error) {
	nonce, text, want := data[:16], data[16:len(data)-16], data[len(data)-16:]
	sum, err := s.mac(nonce, text)
	if err != nil || string(sum[:]) != string(want) {
		return nil, errors.Join(err, errors.New("wrong key"))
	}
	return s.crypt(nonce, text)
}

func (s sealer) seal(plain []byte) ([]byte, error) {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	text, err := s.crypt(nonce, plain)
	if err != nil {
		return nil, err
	}
	sum, err := s.mac(nonce, text)
	return append(append(nonce, text...), sum[:]...), err
}
