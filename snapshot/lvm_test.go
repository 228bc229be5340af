package snapshot

import (
	"strings"
	"testing"
)

// What lvs of LVM 2.03.16 wrote for a full classic snapshot, and a thin pool with a volume
// and its snapshot.
const lvsOutput = `  {
      "report": [
          {
              "lv": [
                  {"vg_name":"vg", "lv_name":"ocbackup-a-20261123T021500Z-7f3a-0123ab-0", "lv_attr":"swi-I-s---", "segtype":"linear", "origin":"lin", "pool_lv":"", "lv_size":"16777216", "data_percent":"100.00", "metadata_percent":"", "lv_health_status":""},
                  {"vg_name":"vg", "lv_name":"pool", "lv_attr":"twi-aotzD-", "segtype":"thin-pool", "origin":"", "pool_lv":"", "lv_size":"209715200", "data_percent":"94.53", "metadata_percent":"95.99", "lv_health_status":""},
                  {"vg_name":"vg", "lv_name":"thin", "lv_attr":"Vwi-aotz--", "segtype":"thin", "origin":"", "pool_lv":"pool", "lv_size":"335544320", "data_percent":"62.30", "metadata_percent":"", "lv_health_status":""}
              ]
          }
      ]
  }
`

func TestLVSRows(t *testing.T) {
	all, err := parseLVS([]byte(lvsOutput))
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	if s := named(all, "ocbackup-a-20261123T021500Z-7f3a-0123ab-0"); !s.invalid() || s.Size != 16<<20 || s.Data != 100 || s.Origin != "lin" {
		t.Errorf("snapshot: %+v", s)
	}
	if why := poolFull(all, named(all, "thin")); !strings.Contains(why, "vg/pool is full: 95 % of its data and 96 %") {
		t.Errorf("a pool without room for metadata: %q", why)
	}
	named(all, "pool").Metadata = 10
	if why := poolFull(all, named(all, "thin")); why != "" {
		t.Errorf("a pool with room: %q", why)
	}
	named(all, "pool").Health = "failed"
	if why := poolFull(all, named(all, "thin")); why == "" {
		t.Error("a pool that has failed")
	}
}

func TestLVMSize(t *testing.T) {
	for want, size := range map[string]string{
		"10g":       "10g",
		"20%ORIGIN": "204k",
		"5%origin":  "51k",
		"50%FREE":   "50%FREE",
	} {
		if got := snapshotSize(want, 1<<20+3); got != size {
			t.Errorf("%s: %s", want, got)
		}
	}
}
