package inspect

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// width is that of the text for people.
const width = 110

// page is text for people: titles, and lines with a label.
type page struct{ text strings.Builder }

func (p *page) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(&p.text, format, args...) // a Builder takes everything
}

func (p *page) title(text string) { p.printf("\n%s\n", text) }

// line writes a line with a label, and breaks it where it is too long.
func (p *page) line(label, format string, args ...any) {
	const indent = 20
	for i, part := range wrap(fmt.Sprintf(format, args...), width-indent) {
		if i > 0 {
			label = ""
		}
		p.printf("  %-*s%s\n", indent-2, label, part)
	}
}

// wrap breaks text into lines of a width, without what a terminal would obey. A longer word
// stays whole.
func wrap(text string, width int) []string {
	var lines []string
	current := ""
	for _, word := range strings.Fields(plain(text)) {
		if current != "" && len(current)+1+len(word) > width {
			lines, current = append(lines, current), ""
		}
		if current != "" {
			current += " "
		}
		current += word
	}
	return append(lines, current)
}

// parts joins the texts that are not empty.
func parts(texts ...string) string {
	var there []string
	for _, text := range texts {
		if text != "" {
			there = append(there, text)
		}
	}
	return strings.Join(there, ", ")
}

// when is a text if something is so.
func when(so bool, text string) string {
	if so {
		return text
	}
	return ""
}

// said is a text with what it is about before it; empty where the text is.
func said(about, text string) string {
	if text == "" {
		return ""
	}
	return about + text
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return "?"
	}
	return at.UTC().Format(time.RFC3339)
}

// findings writes what was found and the commands that mend it, and what was not seen.
func (p *page) findings(found []Finding, unseen Unseen, well string) {
	if len(unseen) > 0 {
		p.title("NOT SEEN")
		for _, text := range unseen {
			p.line("", "%s", text)
		}
	}
	if len(found) == 0 {
		if len(unseen) == 0 {
			p.title(well)
		}
		return
	}
	p.title("FOUND")
	for i, f := range found {
		for j, text := range wrap(f.What+when(f.Note, " (nothing to mend)"), width-4) {
			mark := fmt.Sprintf("%2d. ", i+1)
			if j > 0 {
				mark = "    "
			}
			p.printf("%s%s\n", mark, text)
		}
		if f.Why != "" {
			for _, text := range wrap("Why: "+f.Why, width-4) {
				p.printf("    %s\n", text)
			}
		}
		for _, command := range f.Cure {
			p.printf("      %s\n", plain(command))
		}
	}
}

// Print writes the volume for people.
func (v *Volume) Print(w io.Writer) error {
	p := &page{}
	p.printf("volume %s\n", orElse(plain(v.ID), "of "+plain(v.Asked)+" is not known"))
	p.title("KUBERNETES")
	v.printKubernetes(p)
	p.title("CINDER")
	v.printCinder(p)
	p.title("NOVA")
	for _, s := range v.Servers {
		has := "has the volume"
		switch {
		case s.HasVolume == nil:
			has = "volume: not known"
		case !*s.HasVolume:
			has = "doesn't have the volume"
		}
		if s.Missing {
			p.line("server", "%s: does not exist", s.ID)
			continue
		}
		p.line("server", "%s (%s): %s", s.ID, s.Name, parts(s.Status, said("at work on ", s.Task), when(s.Locked, "locked"), has, s.Fault))
		for _, a := range s.Actions {
			p.line("", "  %s", a)
		}
	}
	if len(v.Servers) == 0 {
		p.line("server", "none has to do with it")
	}
	p.findings(v.Findings, v.Unseen, "All sides agree.")
	_, err := io.WriteString(w, p.text.String())
	return err
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (v *Volume) printKubernetes(p *page) {
	if c := v.Claim; c != nil {
		size := c.Capacity
		if c.grows {
			size += " of " + c.Requested
		}
		p.line("claim", "%s/%s: %s", c.Namespace, c.Name, orElse(parts(when(c.Missing, "does not exist"), c.Phase, size, said("class ", c.Class), when(c.Deleting, "being deleted"), strings.Join(c.Resize, "; ")), "?"))
	}
	if pv := v.PersistentVolume; pv != nil {
		p.line("PersistentVolume", "%s: %s", pv.Name, parts(pv.Phase, pv.Capacity, pv.Reclaim, pv.Driver, when(pv.Deleting, "being deleted"), pv.Message))
	} else {
		p.line("PersistentVolume", "%s", map[bool]string{true: "none", false: "?"}[v.sawKubernetes])
	}
	for _, a := range v.Attachments {
		p.line("VolumeAttachment", "%s: node %s, %s", a.Name, a.Node, parts(a.state(), a.AttachError, a.DetachError))
	}
	for _, one := range v.Pods {
		p.line("pod", "%s: %s", one.Name, parts(one.Phase, said("on ", one.Node), when(one.Deleting, "being deleted")))
	}
	for _, n := range v.Nodes {
		registered := "driver not registered"
		if n.Registered {
			registered = "server " + n.ServerID
		}
		p.line("node", "%s: %s", n.Name, parts(when(n.Missing, "does not exist"), when(!n.Missing && n.Ready, "ready"), when(!n.Missing && !n.Ready, "not ready"), when(n.OutOfService, "out of service"), registered))
	}
	for _, s := range v.Snapshots {
		p.line("snapshot", "%s/%s (%s): %s", s.Namespace, s.Name, s.Content, parts(orElse(s.ID, "not made"), when(s.Ready, "ready"), s.Error))
	}
	for _, e := range v.Events {
		p.line("warning", "%s %s, %s: %s", stamp(e.At), e.Object, e.Reason, e.Message)
	}
}

func (v *Volume) printCinder(p *page) {
	c := v.Cinder
	switch {
	case c == nil:
		p.line("volume", "?")
		return
	case c.Missing:
		p.line("volume", "does not exist")
		return
	}
	p.line("volume", "%s: %s", orElse(c.Name, "no name"), parts(string(c.Status), fmt.Sprintf("%d GiB", c.SizeGiB), said("type ", c.Type), said("zone ", c.Zone), when(c.Shared, "multiattach"), "cloud "+c.Cloud))
	p.line("", "made %s for cluster %s, changed %s", stamp(c.CreatedAt), orElse(c.Cluster, "?"), stamp(c.UpdatedAt))
	for _, r := range c.Records {
		p.line("attachment", "%s: %s, server %s", r.ID, r.Status, orElse(r.ServerID, "none"))
	}
	for _, s := range c.Snapshots {
		p.line("snapshot", "%s: %s, %s", s.ID, s.Name, s.Status)
	}
	for _, b := range c.Backups {
		p.line("backup", "%s: %s, %s", b.ID, b.Name, b.Status)
	}
	for _, m := range c.Messages {
		p.line("message", "%s %s (%s)", stamp(m.At), m.Text, m.RequestID)
	}
}
