package discover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/paths"
)

// defaultFiles are the names that compose looks for, the first that is there wins,
// each with the override file that goes with it.
var defaultFiles = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}

// projectFiles returns the compose files of a project as compose finds them: by
// COMPOSE_FILE, in the environment or in .env, else by name. ("compose config" does
// not tell.)
func projectFiles(dir string) ([]string, error) {
	env, err := projectEnv(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	if list := env("COMPOSE_FILE"); list != "" {
		for f := range strings.SplitSeq(list, or(env("COMPOSE_PATH_SEPARATOR"), ":")) {
			if f = strings.TrimSpace(f); f != "" {
				files = append(files, abs(dir, f))
			}
		}
		return files, nil
	}
	for _, name := range defaultFiles {
		if f := filepath.Join(dir, name); isFile(f) {
			files = append(files, f)
			break
		}
	}
	for _, name := range defaultFiles {
		ext := filepath.Ext(name)
		if f := filepath.Join(dir, strings.TrimSuffix(name, ext)+".override"+ext); isFile(f) {
			files = append(files, f)
			break
		}
	}
	return files, nil
}

// projectEnv looks up variables as compose does for a project: the environment,
// then .env.
func projectEnv(dir string) (func(string) string, error) {
	vars, err := config.ReadEnvFile(filepath.Join(dir, ".env"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var get func(string) string
	get = func(name string) string {
		if v, ok := os.LookupEnv(name); ok {
			return v
		}
		v := vars[name]
		if strings.Contains(v, "$"+name) || strings.Contains(v, "${"+name) {
			return v // refers to itself
		}
		return interpolate(v, get)
	}
	return get, nil
}

// interpolate resolves $NAME, ${NAME}, ${NAME:-default} and ${NAME-default}.
func interpolate(s string, get func(string) string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	return os.Expand(s, func(x string) string {
		name, def, _ := strings.Cut(x, "-")
		if i := strings.IndexAny(name, ":?+"); i > 0 {
			name = name[:i]
		}
		return or(get(name), def)
	})
}

// deployment lists the files that a project is made of: compose files, what they
// include or extend, .env and env_files, configs and secrets; and what could not be
// followed.
func (p *project) deployment(c control.Config) (files, notes []string) {
	env, err := projectEnv(c.ProjectDir)
	if err != nil {
		return nil, []string{"the project's .env could not be read: " + err.Error()}
	}
	todo := slices.Clone(c.Files)
	if len(todo) == 0 {
		if todo, err = projectFiles(c.ProjectDir); err != nil {
			notes = append(notes, err.Error())
		}
	}
	add := func(f string) {
		if isFile(f) && !slices.Contains(files, f) {
			files = append(files, f)
		}
	}
	add(filepath.Join(c.ProjectDir, ".env"))
	for len(todo) > 0 {
		file := todo[0]
		todo = todo[1:]
		if slices.Contains(files, file) || !isFile(file) {
			continue
		}
		add(file)
		refs, envFiles, err := references(file)
		if err != nil {
			notes = append(notes, fmt.Sprintf("the files that %s refers to are not known: %v", file, err))
		}
		for _, r := range refs {
			todo = append(todo, abs(filepath.Dir(file), interpolate(r, env)))
		}
		for _, e := range envFiles {
			e = interpolate(e, env)
			add(abs(filepath.Dir(file), e))
			add(abs(c.ProjectDir, e)) // in the files given by -f, paths are relative to the project
		}
	}
	for _, x := range p.Configs {
		add(x.File)
	}
	for _, x := range p.Secrets {
		add(x.File)
	}
	slices.Sort(files)
	return files, notes
}

// references returns the compose files that a compose file includes or extends, and
// the env files that it names.
func references(file string) (compose, env []string, err error) {
	var doc struct {
		Include  []any
		Services map[string]map[string]any
	}
	if err := opencloud.ReadYAML(file, &doc); err != nil {
		return nil, nil, err
	}
	for _, x := range doc.Include {
		if long, ok := x.(map[string]any); ok {
			compose = append(compose, texts(long["path"])...)
			env = append(env, texts(long["env_file"])...)
		} else {
			compose = append(compose, texts(x)...)
		}
	}
	for _, s := range doc.Services {
		if ext, ok := s["extends"].(map[string]any); ok {
			compose = append(compose, texts(ext["file"])...)
		}
		env = append(env, texts(s["env_file"])...)
	}
	return compose, env, nil
}

// texts reads a text, a list of texts, or a list of tables with the key path.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case map[string]any:
		return texts(v["path"])
	case []any:
		var out []string
		for _, e := range v {
			out = append(out, texts(e)...)
		}
		return out
	}
	return nil
}

// notConfig are places of this host that containers commonly get to see and that do
// not belong to a deployment.
var notConfig = []string{"/dev", "/proc", "/run", "/sys", "/usr", "/var/run", "/etc/localtime", "/etc/timezone", "/etc/ssl", "/tmp"}

// mountedConfig lists what services have mounted from this host as their
// configuration: single files, and directories of the project or of /etc that they
// can't write to. Other directories may be anything, and of any size.
func (p *project) mountedConfig(dir string) []string {
	var out []string
	for _, s := range p.Services {
		for _, v := range s.Volumes {
			if v.Type != "bind" || !below(dir, v.Source) && slices.ContainsFunc(notConfig, func(d string) bool { return paths.Within(d, v.Source) }) {
				continue
			}
			st, err := os.Stat(v.Source)
			if err != nil {
				continue
			}
			switch {
			case st.Mode().IsRegular(), st.IsDir() && v.ReadOnly && (below(dir, v.Source) || below("/etc", v.Source)):
				out = append(out, v.Source)
			}
		}
	}
	return out
}

func abs(dir, p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(dir, p)
}

func isFile(p string) bool {
	st, err := os.Stat(p)
	return err == nil && st.Mode().IsRegular()
}
