//go:build integration

package systemd

import "testing"

// systemd stops what requires a unit along with it, and does not start it again with
// the unit. A backup leaves everything running that was, and nothing else.
func TestDependents(t *testing.T) {
	h := newHost(t)
	for name, tie := range map[string]string{
		"requires": "Requires=" + unit, "bound": "BindsTo=" + unit + "\nAfter=" + unit, "part": "PartOf=" + unit,
		"requisite": "Requisite=" + unit + "\nAfter=" + unit, "second": "Requires=requires.service", "idle": "Requires=" + unit,
	} {
		h.WriteFile(t, "/etc/systemd/system/"+name+".service", "[Unit]\n"+tie+"\n[Service]\nExecStart=/bin/sleep infinity\n", 0o644)
	}
	h.Must(t, "systemctl", "daemon-reload")
	active := []string{"requires", "bound", "part", "requisite", "second"}
	started := map[string]string{}
	for _, name := range active {
		h.Must(t, "systemctl", "start", name+".service")
		started[name] = h.property(t, name+".service", "InvocationID")
	}
	h.backup(t)
	for _, name := range active {
		if state := h.property(t, name+".service", "ActiveState"); state != "active" {
			t.Errorf("%s is %s after the backup", name, state)
		}
		if h.property(t, name+".service", "InvocationID") == started[name] {
			t.Errorf("%s was not stopped: this test shows nothing", name)
		}
	}
	if state := h.property(t, "idle.service", "ActiveState"); state != "inactive" {
		t.Errorf("idle.service is %s after the backup", state)
	}
}
