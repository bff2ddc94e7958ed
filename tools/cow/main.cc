// SPDX-License-Identifier: GPL-2.0-only
/*
 * ubd-cow: COW files of User Mode Linux, without booting anything. See
 * Documentation/man/ubd-cow.1.
 */
#include "commands.hh"
#include "ubd/cow_format.h"
#include "ubd/version.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <new>

using namespace ubd::tool;

namespace
{

struct Arguments {
	std::string cow, backing, into;
	ubd::u64 bytes = 0;
	bool json = false, repair = false, trust = false, to_backing = false;
	ConvertOptions convert;
};

int rebase_as_asked(const Arguments &a)
{
	if (a.trust)
		return rebase_trusting(a.cow, a.backing);
	if (a.backing.empty())
		throw Failure{ status_usage, "rebase: NEWBACKING is missing; name it, or say --trust" };
	return rebase(a.cow, a.backing);
}

CLI::App *command(CLI::App &app, Arguments &a, const char *name, const char *what, int &status,
		  int (*run)(const Arguments &))
{
	CLI::App *c = app.add_subcommand(name, what);
	c->callback([&a, &status, run] { status = run(a); });
	return c;
}

void add_file(CLI::App *c, Arguments &a)
{
	c->add_option("COW", a.cow, "the COW file")->required();
}

void add_json(CLI::App *c, Arguments &a)
{
	c->add_flag("--json", a.json, "print JSON");
}

void add_commands(CLI::App &app, Arguments &a, int &status)
{
	CLI::App *c = command(app, a, "create", "Make a COW file over a backing file", status,
			      [](const Arguments &x) { return create(x.cow, x.backing); });
	add_file(c, a);
	c->add_option("BACKING", a.backing, "the backing file")->required();

	c = command(app, a, "info", "Tell what a COW file is", status,
		    [](const Arguments &x) { return info(x.cow, x.json); });
	add_file(c, a);
	add_json(c, a);

	c = command(app, a, "check", "Look for damage", status,
		    [](const Arguments &x) { return check(x.cow, x.repair, x.json); });
	add_file(c, a);
	c->add_flag("--repair", a.repair, "repair what is safe to repair");
	add_json(c, a);

	c = command(app, a, "merge", "Merge a COW file into its backing file, or both into a new file", status,
		    [](const Arguments &x) { return merge(x.cow, x.into); });
	add_file(c, a);
	c->add_option("--into", a.into, "a new file, instead of the backing file");

	c = command(app, a, "rebase", "Give a COW file another backing file", status, rebase_as_asked);
	add_file(c, a);
	c->add_option("NEWBACKING", a.backing, "the other one; with --trust that which it has if left out");
	c->add_flag("--trust", a.trust, "its content is the same: only write down its name and time");

	c = command(app, a, "resize", "Give a COW file the size that its backing file has by now, or grow both", status,
		    [](const Arguments &x) { return resize(x.cow, x.bytes); });
	add_file(c, a);
	CLI::Option *size =
		c->add_option("SIZE", a.bytes, "of the disk, in bytes, or with K, M, G or T; both files grow");
	size->transform(CLI::AsSizeValue(false))->check(CLI::Range(ubd::u64{ 1 }, ubd::u64{ UBD_COW_SIZE_MAX }));
	c->add_flag("--to-backing", a.to_backing, "that of the backing file, as if SIZE is left out")->excludes(size);

	c = command(app, a, "diff", "List the ranges that differ from the backing file", status,
		    [](const Arguments &x) { return diff(x.cow, x.json); });
	add_file(c, a);
	add_json(c, a);

	c = command(app, a, "map", "List the ranges of the device and the file each lies in", status,
		    [](const Arguments &x) { return map(x.cow, x.json); });
	add_file(c, a);
	add_json(c, a);
}

void add_convert(CLI::App &app, Arguments &a, int &status)
{
	CLI::App *c = command(app, a, "convert", "Make a raw, COW or qcow2 file of one of these", status,
			      [](const Arguments &x) { return convert(x.convert); });
	ConvertOptions &o = a.convert;
	const CLI::IsMember formats({ "raw", "cow", "qcow2" });
	c->add_option("SRC", o.from, "what there is")->required();
	c->add_option("DST", o.to, "the new file")->required();
	c->add_option("--format", o.format, "of DST; by its name's end, or raw, if left out")->check(formats);
	c->add_option("--source-format", o.from_format, "of SRC; by its first bytes if left out")->check(formats);
	c->add_option("--backing", o.backing, "backing file of a new COW file");
	c->add_flag("--follow-names", o.follow_names, "read the files that a qcow2 file names too");
}

int run(int argc, char **argv)
{
	Arguments arguments;
	int status = status_done;
	CLI::App app("COW files of User Mode Linux: make, look at, check, merge, rebase, resize, convert");
	app.name("ubd-cow");
	app.set_version_flag("--version", "ubd-cow " UBD_VERSION);
	app.require_subcommand(1);
	add_commands(app, arguments, status);
	add_convert(app, arguments, status);
	try {
		app.parse(argc, argv);
	} catch (const CLI::ParseError &e) {
		return app.exit(e) ? status_usage : status_done;
	}
	if (std::fflush(stdout) || std::ferror(stdout))
		throw Failure{ status_failed, "standard output cannot be written; nothing else went wrong" };
	return status;
}

} // namespace

int main(int argc, char **argv)
{
	try {
		return run(argc, argv);
	} catch (const Failure &f) {
		std::fflush(stdout);
		std::fprintf(stderr, "ubd-cow: %s\n", f.text.c_str());
		return f.status;
	} catch (const std::bad_alloc &) {
		std::fputs("ubd-cow: no memory; free some and run it again\n", stderr);
		return status_failed;
	}
}
