package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
)

// filler fills the server, and remembers with what: a line of expected for each.
type filler struct {
	ctx      context.Context
	c        *client
	expected []string
	err      error // the first one; nothing is done after it
}

// indexedName is the name of a file that is in every space.
const indexedName = "find-me.txt"

// fill fills a server for the first time: with some of everything that a restore
// has to bring back. A tree with an expected.tsv beside it has been filled.
func (i *instance) fill(ctx context.Context, c *client) error {
	if _, err := os.Stat(i.expected()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f := &filler{ctx: ctx, c: c}
	f.remember("USER", "admin", adminPassword)
	f.remember("USER", "alan", "demo")
	home, err := c.personal(ctx, admin)
	if err != nil {
		return err
	}
	f.file(home, indexedName, "in the personal space\n")
	f.folder(home, "docs")
	f.folder(home, "docs/deep er")
	f.file(home, "docs/deep%20er/%C3%BCn%C3%AF%20%2B.txt", "a name to be escaped\n")
	f.file(home, "docs/empty.bin", "")
	f.file(home, "docs/large.bin", strings.Repeat("0123456789abcdef", 64<<10))
	f.remember("SEARCH", admin, indexedName, indexedName)

	for v := range 3 {
		f.put(home, "versioned.txt", fmt.Sprintf("version %d\n", v+1))
	}
	f.remember("FILE", admin, path(home, "versioned.txt"), hashHex([]byte("version 3\n")))
	f.remember("VERS", admin, f.id(home, "versioned.txt"), "2", hashHex([]byte("version 1\n")))

	f.put(home, "trashed.txt", "trashed\n")
	f.do(http.MethodDelete, space(home)+"/trashed.txt", "", http.StatusNoContent)
	f.remember("TRASH", admin, home, "trashed.txt")

	f.folder(home, "shared")
	f.file(home, "shared/inside.txt", "shared\n")
	f.share(home, f.id(home, "shared"))
	f.remember("SHARE", alan, "shared", "inside.txt", hashHex([]byte("shared\n")))

	project := f.project("Project")
	f.file(project, indexedName, "in a project space\n")
	f.remember("SPACE", admin, "Project", project)
	disabled := f.project("Disabled")
	f.put(disabled, "asleep.txt", "in a disabled space\n")
	f.do(http.MethodDelete, "/graph/v1.0/drives/"+disabled, "", http.StatusNoContent)
	f.remember("DISABLED", admin, "Disabled", disabled)
	if f.err != nil {
		return fmt.Errorf("fill: %w", f.err)
	}
	return os.WriteFile(i.expected(), []byte(strings.Join(f.expected, "")), 0o600)
}

// path is the path of a file in a space as expected.tsv has it.
func path(space, name string) string { return "spaces/" + space + "/" + name }

func (f *filler) remember(fields ...string) {
	f.expected = append(f.expected, strings.Join(fields, "\t")+"\n")
}

func (f *filler) do(method, path, body string, want ...int) {
	if f.err == nil {
		_, f.err = f.c.do(f.ctx, admin, method, path, body, want...)
	}
}

func (f *filler) json(method, path string, body, v any) {
	b, err := json.Marshal(body)
	if f.err == nil {
		f.err = err
	}
	if f.err == nil {
		f.err = f.c.json(f.ctx, admin, method, path, string(b), v)
	}
}

func (f *filler) folder(drive, name string) {
	f.do("MKCOL", space(drive)+"/"+strings.ReplaceAll(name, " ", "%20"), "", http.StatusCreated)
}

func (f *filler) put(drive, name, content string) {
	if f.err == nil {
		f.err = f.c.put(f.ctx, admin, space(drive)+"/"+name, content)
	}
}

// file puts a file that stays as it is.
func (f *filler) file(drive, name, content string) {
	f.put(drive, name, content)
	f.remember("FILE", admin, path(drive, name), hashHex([]byte(content)))
}

// id is the file id of a file or folder.
func (f *filler) id(drive, name string) string {
	if f.err != nil {
		return ""
	}
	var list []entry
	if list, f.err = f.c.list(f.ctx, admin, space(drive)+"/"+name); len(list) == 0 {
		return ""
	}
	return list[0].Prop.FileID
}

func (f *filler) project(name string) string {
	var d drive
	f.json(http.MethodPost, "/graph/v1.0/drives", map[string]string{"name": name, "driveType": "project"}, &d)
	return d.ID
}

// share shares a folder with alan, who may view it, and by a public link.
func (f *filler) share(drive, item string) {
	var me struct{ ID string }
	if f.err == nil {
		f.err = f.c.json(f.ctx, alan, http.MethodGet, "/graph/v1.0/me", "", &me)
	}
	at := "/graph/v1beta1/drives/" + drive + "/items/" + item
	var permissions struct {
		Roles []struct{ ID, DisplayName string } `json:"@libre.graph.permissions.roles.allowedValues"`
	}
	if f.err == nil {
		f.err = f.c.json(f.ctx, admin, http.MethodGet, at+"/permissions", "", &permissions)
	}
	viewer := slices.IndexFunc(permissions.Roles, func(r struct{ ID, DisplayName string }) bool { return strings.Contains(r.DisplayName, "iew") })
	if f.err == nil && viewer < 0 {
		f.err = errors.New("there is no role of a viewer")
	}
	if f.err != nil {
		return
	}
	f.json(http.MethodPost, at+"/invite", map[string]any{
		"recipients": []map[string]string{{"objectId": me.ID, "@libre.graph.recipient.type": "user"}},
		"roles":      []string{permissions.Roles[viewer].ID},
	}, &struct{}{})
	var link struct{ Link struct{ WebURL string } }
	f.json(http.MethodPost, at+"/createLink", map[string]string{"type": "view"}, &link)
	f.remember("LINK", link.Link.WebURL[strings.LastIndexByte(link.Link.WebURL, '/')+1:], "inside.txt", hashHex([]byte("shared\n")))
}
