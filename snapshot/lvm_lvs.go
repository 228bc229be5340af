package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ocbackup/ocbackup/proc"
)

// logicalVolume is a row of lvs(8).
type logicalVolume struct {
	VG       string  `json:"vg_name"`
	Name     string  `json:"lv_name"`
	Attr     string  `json:"lv_attr"`
	Type     string  `json:"segtype"` // "thin", "thin-pool", "linear", ...
	Origin   string  `json:"origin"`  // of a snapshot
	Pool     string  `json:"pool_lv"` // of a thin volume
	Size     uint64  `json:"lv_size,string"`
	Data     percent `json:"data_percent"`     // how full a classic snapshot or a pool is
	Metadata percent `json:"metadata_percent"` // of a pool
	Health   string  `json:"lv_health_status"` // of a pool: "", "out_of_data", "failed", ...
}

// percent is 0 for what has none: "".
type percent float64

// UnmarshalJSON reads what lvs writes: a number in quotes.
func (p *percent) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil || s == "" {
		return err
	}
	f, err := strconv.ParseFloat(s, 64)
	*p = percent(f)
	return err
}

// invalid tells whether a classic snapshot has overflowed. See lv_attr in lvs(8), the state.
func (l *logicalVolume) invalid() bool {
	return len(l.Attr) > 4 && (l.Attr[4] == 'I' || l.Attr[4] == 'S')
}

// extend gives a classic snapshot as much space again as it has, or all that there is. One
// that has all it can ever need is left as it is.
func (l *logicalVolume) extend(ctx context.Context) error {
	_, err := runLVM(ctx, "lvextend", "--quiet", "--size", fmt.Sprintf("+%dk", l.Size>>10), l.VG+"/"+l.Name)
	if err != nil {
		_, err = runLVM(ctx, "lvextend", "--quiet", "--extents", "+100%FREE", l.VG+"/"+l.Name)
	}
	return err
}

// inGroup selects the logical volumes of a volume group. There are none in one that is not there.
func inGroup(vg string) string { return `vg_name="` + vg + `"` }

// named returns the logical volume of that name, or nil.
func named(all []logicalVolume, name string) *logicalVolume {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}

// logicalVolumes returns those that a selection (lvmreport(7)) takes.
func logicalVolumes(ctx context.Context, selection string) ([]logicalVolume, error) {
	out, err := runLVM(ctx, "lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "--select", selection,
		"--options", "vg_name,lv_name,lv_attr,segtype,origin,pool_lv,lv_size,data_percent,metadata_percent,lv_health_status")
	if err != nil {
		return nil, err
	}
	return parseLVS(out)
}

func parseLVS(data []byte) ([]logicalVolume, error) {
	var out struct {
		Report []struct {
			LV []logicalVolume `json:"lv"`
		} `json:"report"`
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("lvs: %w", err)
	}
	var all []logicalVolume
	for _, r := range out.Report {
		all = append(all, r.LV...)
	}
	return all, nil
}

// lvmKillAfter is how long a program of lvm2 may take to end: one that is killed while it
// has a volume suspended leaves it so, with all who write to it.
const lvmKillAfter = 2 * time.Minute

// runLVM runs a program of lvm2 and returns its standard output.
func runLVM(ctx context.Context, name string, args ...string) ([]byte, error) {
	// LC_ALL: no decimal commas. The other: it complains of files that its caller has open.
	res, err := proc.Run(ctx, proc.Cmd{
		Name: name, Args: args, Env: []string{"LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1"}, KillAfter: lvmKillAfter,
	})
	if missing := new(proc.NotFoundError); errors.As(err, &missing) {
		return nil, fmt.Errorf("%w: install the package lvm2", err)
	}
	if err != nil {
		return nil, err
	}
	return res.Stdout, nil
}
