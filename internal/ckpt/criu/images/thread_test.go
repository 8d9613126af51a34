package images

import (
	"reflect"
	"testing"

	criucreds "github.com/checkpoint-restore/go-criu/v8/crit/images/creds"
	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"google.golang.org/protobuf/proto"
)

// TestSetThread changes what was asked for, of whatever there is, and nothing
// else.
func TestSetThread(t *testing.T) {
	creds := func(bounding ...uint32) *criucreds.CredsEntry {
		return &criucreds.CredsEntry{Uid: new(uint32(7)), CapEff: []uint32{1, 0}, CapBnd: bounding, CapAmb: []uint32{2, 0}}
	}
	for name, test := range map[string]struct {
		core, want *criucore.CoreEntry
		options    ThreadOptions
	}{
		"nothing": {
			core: &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{CgSet: new(uint32(2)), Creds: creds(1, 2)}},
			want: &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{CgSet: new(uint32(2)), Creds: creds(1, 2)}},
		},
		"groups": {
			core: &criucore.CoreEntry{
				Tc:         &criucore.TaskCoreEntry{CgSet: new(uint32(3)), Comm: new("sh")},
				ThreadCore: &criucore.ThreadCoreEntry{CgSet: new(uint32(2)), Creds: creds(1, 2)},
			},
			want: &criucore.CoreEntry{
				Tc:         &criucore.TaskCoreEntry{Comm: new("sh")},
				ThreadCore: &criucore.ThreadCoreEntry{Creds: creds(1, 2)},
			},
			options: ThreadOptions{NoCgroups: true},
		},
		"capabilities": {
			core:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{CgSet: new(uint32(2)), Creds: creds(0xfffffffe, 0xff)}},
			want:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{CgSet: new(uint32(2)), Creds: creds(0xffffffff, 0x1ff)}},
			options: ThreadOptions{Dropped: 1<<40 | 1<<0 | 1<<5},
		},
		"one word": {
			core:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: creds(2)}},
			want:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: creds(3)}},
			options: ThreadOptions{Dropped: 1<<40 | 1},
		},
		"no words": {
			core:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: creds()}},
			want:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: creds()}},
			options: ThreadOptions{Dropped: 1},
		},
		"no right to set capabilities": {
			core: &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: &criucreds.CredsEntry{
				CapInh: []uint32{0x81, 3}, CapBnd: []uint32{1, 2}, Secbits: new(uint32(0x10)), CapPrm: []uint32{0, 0}}}},
			want: &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: &criucreds.CredsEntry{
				CapInh: []uint32{0x80, 1}, CapBnd: []uint32{0xffffffff, 0xffffffff}, Secbits: new(uint32(4)), CapPrm: []uint32{0, 0}}}},
			options: ThreadOptions{Dropped: 1, Own: &OwnCredentials{Inheritable: 1<<32 | 0x84, Securebits: 4}},
		},
		"capabilities that are missing": {
			core: &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: &criucreds.CredsEntry{
				CapInh: []uint32{3, 1}, CapPrm: []uint32{7, 3}, CapEff: []uint32{5, 2}, CapBnd: []uint32{0xff, 0xff}, CapAmb: []uint32{1, 0}}}},
			want: &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: &criucreds.CredsEntry{
				CapInh: []uint32{2, 1}, CapPrm: []uint32{6, 1}, CapEff: []uint32{4, 0}, CapBnd: []uint32{0xff, 0xff}, CapAmb: []uint32{0, 0}}}},
			options: ThreadOptions{Missing: 1<<33 | 1},
		},
		"supplementary groups": {
			core:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: &criucreds.CredsEntry{Gid: new(uint32(7)), Groups: []uint32{7, 9}}}},
			want:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: &criucreds.CredsEntry{Gid: new(uint32(7)), Groups: []uint32{8, 1 << 31}}}},
			options: ThreadOptions{Groups: []uint32{8, 1 << 31}},
		},
		"no supplementary groups": {
			core:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: &criucreds.CredsEntry{Gid: new(uint32(7)), Groups: []uint32{7, 9}}}},
			want:    &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Creds: &criucreds.CredsEntry{Gid: new(uint32(7))}}},
			options: ThreadOptions{Groups: []uint32{}},
		},
		"it has ended": {
			core:    &criucore.CoreEntry{Tc: &criucore.TaskCoreEntry{Comm: new("sh")}},
			want:    &criucore.CoreEntry{Tc: &criucore.TaskCoreEntry{Comm: new("sh")}},
			options: ThreadOptions{NoCgroups: true, Dropped: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := SetThread(encode(t, kindCore, test.core), test.options)
			if err != nil {
				t.Fatal(err)
			}
			b, err := kindCore.body(got)
			if err == nil {
				b, err = payload(b)
			}
			found := new(criucore.CoreEntry)
			if err == nil {
				err = proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(b, found)
			}
			// The order of fields may be another.
			if err != nil || !proto.Equal(found, test.want) {
				t.Errorf("got %v, %v, want %v", found, err, test.want)
			}
		})
	}
}

// TestReadRights reads what a core image has of them.
func TestReadRights(t *testing.T) {
	core := &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{SchedNice: new(int32(-5)), SchedPolicy: new(uint32(1)), Creds: &criucreds.CredsEntry{
		CapInh: []uint32{1, 2}, CapPrm: []uint32{5, 6}, CapBnd: []uint32{3, 4}, Secbits: new(uint32(0x10)), NoNewPrivs: new(uint32(1)), Groups: []uint32{7, 9}}}}
	want := Rights{Groups: []uint64{7, 9}, Inheritable: 2<<32 | 1, Permitted: 6<<32 | 5, Bounding: 4<<32 | 3, Securebits: 0x10, NoNewPrivs: true, Nice: -5, Policy: 1}
	if got, err := ReadRights(encode(t, kindCore, core)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}
