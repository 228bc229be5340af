package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// verifiers check one line of expected.tsv each, by its kind. Lines of other kinds
// are passed over.
var verifiers = map[string]func(ctx context.Context, c *client, field []string) error{
	"USER": verifyUser,
	"FILE": func(ctx context.Context, c *client, f []string) error {
		return c.has(ctx, f[0], "/remote.php/dav/"+f[1], f[2])
	},
	"VERS":  verifyVersions,
	"TRASH": verifyTrash,
	"SHARE": verifyShare,
	"LINK": func(ctx context.Context, c *client, f []string) error {
		return c.has(ctx, "", "/remote.php/dav/public-files/"+f[0]+"/"+f[1], f[2])
	},
	"SPACE":    verifySpace,
	"DISABLED": verifyDisabled,
	"SEARCH":   verifySearch,
}

// verify asks the running server for all that is in expected.tsv.
func (i *instance) verify() error {
	b, err := os.ReadFile(i.expected())
	if err != nil {
		return err
	}
	ctx, c := context.Background(), i.client()
	if err := poll(ctx, time.Minute, func() error { return c.ready(ctx) }); err != nil {
		return err
	}
	count := map[string]int{}
	for line := range strings.Lines(string(b)) {
		field := strings.Split(strings.TrimSpace(line), "\t")
		if f := verifiers[field[0]]; f != nil {
			if ferr := f(ctx, c, field[1:]); ferr != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", strings.Join(field, " "), ferr))
			}
			count[field[0]]++
		}
	}
	for kind := range verifiers {
		if count[kind] == 0 {
			err = errors.Join(err, fmt.Errorf("%s has no %s", i.expected(), kind))
		}
	}
	fmt.Println("verified:", count)
	return err
}

// has checks the content of a file.
func (c *client) has(ctx context.Context, user, path, sha256 string) error {
	b, err := c.get(ctx, user, path)
	if err == nil && hashHex(b) != sha256 {
		err = fmt.Errorf("%s: the content is another: %.40q", path, b)
	}
	return err
}

func verifyUser(ctx context.Context, c *client, f []string) error {
	_, err := c.do(ctx, f[0]+":"+f[1], http.MethodGet, "/graph/v1.0/me", "", http.StatusOK)
	return err
}

// verifyVersions checks the number of old versions, and that one has the content.
func verifyVersions(ctx context.Context, c *client, f []string) error {
	list, err := c.list(ctx, f[0], "/remote.php/dav/meta/"+f[1]+"/v")
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(e entry) bool { return !strings.Contains(e.Href, "/v/") || strings.HasSuffix(e.Href, "/v/") })
	if strconv.Itoa(len(list)) != f[2] {
		return fmt.Errorf("%d versions", len(list))
	}
	for _, e := range list {
		if err = c.has(ctx, f[0], e.Href, f[3]); err == nil {
			return nil
		}
	}
	return err
}

func verifyTrash(ctx context.Context, c *client, f []string) error {
	list, err := c.list(ctx, f[0], "/remote.php/dav/spaces/trash-bin/"+f[1])
	if err == nil && !slices.ContainsFunc(list, func(e entry) bool { return e.Prop.OriginalName == f[2] }) {
		err = errors.New("it is not in the trash")
	}
	return err
}

func verifyShare(ctx context.Context, c *client, f []string) error {
	var list struct{ Value []struct{ ID, Name string } }
	if err := c.json(ctx, f[0], http.MethodGet, "/graph/v1beta1/me/drive/sharedWithMe", "", &list); err != nil {
		return err
	}
	for _, s := range list.Value {
		if s.Name == f[1] {
			return c.has(ctx, f[0], space(s.ID)+"/"+f[2], f[3])
		}
	}
	return errors.New("it is not shared")
}

func verifySpace(ctx context.Context, c *client, f []string) error {
	list, err := c.drives(ctx, f[0])
	if err == nil && !slices.ContainsFunc(list, func(d drive) bool { return d.ID == f[2] && d.Name == f[1] }) {
		err = errors.New("it is not listed")
	}
	return err
}

func verifyDisabled(ctx context.Context, c *client, f []string) error {
	var d drive
	err := c.json(ctx, f[0], http.MethodGet, "/graph/v1.0/drives/"+f[2], "", &d)
	if err == nil && (d.Name != f[1] || d.Root.Deleted == nil || d.Root.Deleted.State != "trashed") {
		err = fmt.Errorf("it is no disabled space of that name: %+v", d)
	}
	return err
}

// verifySearch waits a little: the server adds to its index after an upload.
func verifySearch(ctx context.Context, c *client, f []string) error {
	return poll(ctx, 10*time.Second, func() error {
		list, err := c.search(ctx, f[0], f[1])
		if err == nil && !slices.ContainsFunc(list, func(e entry) bool { return strings.Contains(e.Href, f[2]) }) {
			err = errors.New("search does not find it")
		}
		return err
	})
}

// printIndexed prints the admin's spaces in which search finds the file that is in
// every one, after a wait for those in which it does not yet.
func (i *instance) printIndexed() error {
	ctx, c := context.Background(), i.client()
	if err := poll(ctx, time.Minute, func() error { return c.ready(ctx) }); err != nil {
		return err
	}
	drives, err := c.drives(ctx, admin)
	if err != nil {
		return err
	}
	drives = slices.DeleteFunc(drives, func(d drive) bool {
		return d.Root.Deleted != nil || d.DriveType != "personal" && d.DriveType != "project"
	})
	var found []string
	err = poll(ctx, 15*time.Second, func() error {
		list, err := c.search(ctx, admin, indexedName)
		if err != nil {
			return err
		}
		found = nil
		for _, d := range drives {
			if slices.ContainsFunc(list, func(e entry) bool { return strings.Contains(e.Href, d.ID) }) {
				found = append(found, d.ID)
			}
		}
		if len(found) < len(drives) {
			return errors.New("not all are indexed")
		}
		return nil
	})
	fmt.Println(strings.Join(found, "\n"))
	if len(found) > 0 {
		return nil
	}
	return err
}
