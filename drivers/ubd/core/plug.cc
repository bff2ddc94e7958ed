// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files of such a directory, each by its row of a table.
 *
 * Context: any, no lock, no memory.
 */
#include "plug.hh"

#include "options.hh"

namespace ubd
{
namespace
{

// Of a message, or of a value that is shown.
struct Out {
	char *to;
	size_t bytes;

	template <class... T> int say(const char *format, T... values) const
	{
		ubd_k_snprintf(to, bytes, format, values...);
		return 0;
	}
};

int bad(const Out &why, int error, const char *text)
{
	why.say("%s", text);
	return error;
}

bool is(const char *text, size_t bytes, const char *word)
{
	return __builtin_strlen(word) == bytes && !__builtin_memcmp(text, word, bytes);
}

// What names and serials may hold.
bool printable(const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (static_cast<unsigned char>(text[i]) < ' ' || text[i] == '\x7f')
			return false;
	return true;
}

int set_text(const char *text, size_t bytes, char *to, size_t most, const Out &why)
{
	if (bytes >= most) {
		why.say("is too long; it has at most %u bytes", static_cast<u32>(most - 1));
		return errno_nametoolong;
	}
	if (!printable(text, bytes))
		return bad(why, errno_inval, "has control characters, which it may not");
	__builtin_memcpy(to, text, bytes);
	to[bytes] = '\0';
	return 0;
}

// Decimal. Stops growing when it is beyond any limit.
bool take_number(const char *text, size_t bytes, u64 &n)
{
	n = 0;
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		if (n < 1ull << 40)
			n = 10 * n + static_cast<u64>(text[i] - '0');
	}
	return bytes;
}

int set_number(const char *text, size_t bytes, u32 &to, u32 least, u32 most, const Out &why)
{
	u64 n;
	if (!take_number(text, bytes, n)) {
		why.say("is no number; it goes from %u to %u", least, most);
		return errno_inval;
	}
	if (n < least || n > most) {
		why.say("is out of range; it goes from %u to %u", least, most);
		return errno_range;
	}
	to = static_cast<u32>(n);
	return 0;
}

int set_block_size(const char *text, size_t bytes, u32 &to, const Out &why)
{
	u64 n;
	if (!take_number(text, bytes, n))
		return bad(why, errno_inval, "is no number; it is 0 (as the file has it), 512 or 4096");
	if (n != 0 && n != 512 && n != 4096)
		return bad(why, errno_range, "is none of 0 (as the file has it), 512, 4096");
	to = static_cast<u32>(n);
	return 0;
}

int parse_switch(const char *text, size_t bytes)
{
	return is(text, bytes, "1") ? 1 : is(text, bytes, "0") ? 0 : -1;
}

int set_switch(const char *text, size_t bytes, bool &to, const Out &why)
{
	const int on = parse_switch(text, bytes);
	if (on < 0)
		return bad(why, errno_inval, "is neither 0 nor 1");
	to = on;
	return 0;
}

int set_index(const char *text, size_t bytes, ubd_plug &p, const Out &why)
{
	if (is(text, bytes, "auto")) {
		p.any_index = true;
		return 0;
	}
	const int error = set_number(text, bytes, p.options.index, 0, UBD_MAX_DEVICES - 1, why);
	p.any_index = p.any_index && error;
	return error;
}

int set_cache(const char *text, size_t bytes, ubd_cache &to, const Out &why)
{
	return ubd_parse_cache(text, bytes, &to) ? 0 : bad(why, errno_inval, "is none of " UBD_CACHE_NAMES);
}

int set_engine(const char *text, size_t bytes, ubd_engine &to, const Out &why)
{
	const ubd_engine engine = ubd_parse_engine(text, bytes);
	if (engine == UBD_ENGINE_DEFAULT)
		return bad(why, errno_inval, "is none of " UBD_ENGINE_NAMES);
	to = engine;
	return 0;
}

int set_werror(const char *text, size_t bytes, ubd_werror &to, const Out &why)
{
	const char *wrong = ubd_parse_werror(text, bytes, &to);
	return wrong ? bad(why, errno_inval, wrong) : 0;
}

int set(ubd_plug &p, ubd_plug_file file, const char *text, size_t bytes, const Out &why)
{
	ubd_options &o = p.options;
	int error = 0;
	switch (file) {
	case UBD_PLUG_PATH:
		error = set_text(text, bytes, o.path, sizeof(o.path), why);
		shorten_path(o.path, o.shown);
		return error;
	case UBD_PLUG_BACKING:
		error = set_text(text, bytes, o.backing, sizeof(o.backing), why);
		shorten_path(o.backing, o.backing_shown);
		return error;
	case UBD_PLUG_SERIAL:
		return set_text(text, bytes, o.serial, sizeof(o.serial), why);
	case UBD_PLUG_CACHE:
		return set_cache(text, bytes, o.cache, why);
	case UBD_PLUG_ENGINE:
		return set_engine(text, bytes, o.engine, why);
	case UBD_PLUG_WERROR:
		return set_werror(text, bytes, o.werror, why);
	case UBD_PLUG_INDEX:
		return set_index(text, bytes, p, why);
	case UBD_PLUG_READ_ONLY:
		return set_switch(text, bytes, o.read_only, why);
	case UBD_PLUG_DISCARD:
		error = set_switch(text, bytes, p.discard, why);
		o.no_discard = !p.discard;
		return error;
	case UBD_PLUG_SHARED:
		return set_switch(text, bytes, o.shared, why);
	case UBD_PLUG_PLAIN:
		return set_switch(text, bytes, o.plain, why);
	case UBD_PLUG_BLOCK_SIZE:
		return set_block_size(text, bytes, p.block_size, why);
	case UBD_PLUG_QUEUE_DEPTH:
		return set_number(text, bytes, p.queue_depth, 1, UBD_MAX_QUEUE_DEPTH, why);
	case UBD_PLUG_COMMIT_MS:
		return set_number(text, bytes, p.commit_ms, 0, ~0u, why);
	case UBD_PLUG_POLL_US:
		return set_number(text, bytes, p.poll_us, 0, UBD_MAX_POLL_US, why);
	}
	return bad(why, errno_inval, "is not known");
}

const char *engine_name(ubd_engine engine)
{
	switch (engine) {
	case UBD_ENGINE_IO_URING:
		return "io_uring";
	case UBD_ENGINE_THREADS:
		return "threads";
	default:
		return "auto";
	}
}

int show(const ubd_plug &p, ubd_plug_file file, const Out &out)
{
	const ubd_options &o = p.options;
	switch (file) {
	case UBD_PLUG_PATH:
		return out.say("%s\n", o.path);
	case UBD_PLUG_BACKING:
		return out.say("%s\n", o.backing);
	case UBD_PLUG_SERIAL:
		return out.say("%s\n", o.serial);
	case UBD_PLUG_CACHE:
		return out.say("%s\n", name_of(o.cache));
	case UBD_PLUG_ENGINE:
		return out.say("%s\n", engine_name(o.engine));
	case UBD_PLUG_WERROR:
		return out.say("%s\n", name_of(o.werror));
	case UBD_PLUG_INDEX:
		return p.any_index ? out.say("auto\n") : out.say("%u\n", o.index);
	case UBD_PLUG_READ_ONLY:
		return out.say("%d\n", o.read_only);
	case UBD_PLUG_DISCARD:
		return out.say("%d\n", p.discard);
	case UBD_PLUG_SHARED:
		return out.say("%d\n", o.shared);
	case UBD_PLUG_PLAIN:
		return out.say("%d\n", o.plain);
	case UBD_PLUG_BLOCK_SIZE:
		return out.say("%u\n", p.block_size);
	case UBD_PLUG_QUEUE_DEPTH:
		return out.say("%u\n", p.queue_depth);
	case UBD_PLUG_COMMIT_MS:
		return out.say("%u\n", p.commit_ms);
	case UBD_PLUG_POLL_US:
		return out.say("%u\n", p.poll_us);
	}
	return out.say("\n");
}

} // namespace

const char *name_below(const char *root, const char *path)
{
	if (path[0] != '/')
		return path;
	size_t n = __builtin_strlen(root);
	while (n && root[n - 1] == '/')
		n--;
	if (__builtin_strncmp(path, root, n) != 0 || (path[n] != '/' && path[n]))
		return nullptr;
	while (path[n] == '/')
		n++;
	return path[n] ? path + n : ".";
}

} // namespace ubd

void ubd_plug_init(ubd_plug *p, const ubd_open_settings *s, ubd_cache cache, ubd_werror werror)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->options.cache = cache;
	p->options.werror = werror;
	p->options.engine = s->engine;
	p->any_index = true;
	p->discard = true;
	p->block_size = s->block_size;
	p->queue_depth = s->queue_depth;
	p->commit_ms = s->commit_ms;
	p->poll_us = s->poll_us;
}

int ubd_plug_set(ubd_plug *p, ubd_plug_file file, const char *text, size_t bytes, char *why, size_t why_bytes)
{
	if (bytes && text[bytes - 1] == '\n') // of echo
		bytes--;
	return ubd::set(*p, file, text, bytes, ubd::Out{ why, why_bytes });
}

void ubd_plug_show(const ubd_plug *p, ubd_plug_file file, char *to, size_t bytes)
{
	(void)ubd::show(*p, file, ubd::Out{ to, bytes });
}

int ubd_plug_complete(const ubd_plug *p, char *why, size_t bytes)
{
	using namespace ubd;
	const Out out{ why, bytes };
	if (!p->options.path[0])
		return bad(out, errno_inval, "no file is named; write its name to path");
	if (p->options.backing[0] && p->options.plain)
		return bad(out, errno_inval, "plain data and a backing file exclude each other; see plain, backing");
	return 0;
}

void ubd_plug_settings(const ubd_plug *p, ubd_open_settings *s)
{
	s->below = true;
	s->block_size = p->block_size;
	s->queue_depth = p->queue_depth;
	s->commit_ms = p->commit_ms;
	s->poll_us = p->poll_us;
}

int ubd_parse_switch(const char *text, size_t bytes)
{
	return ubd::parse_switch(text, bytes - (bytes && text[bytes - 1] == '\n'));
}

ubd_taken ubd_beside(const ubd_options *mine, const ubd_options *other, bool same_file)
{
	if (mine->index == other->index)
		return UBD_TAKEN_NUMBER;
	if (same_file && !(mine->shared && other->shared)) // whoever wants to, may
		return UBD_TAKEN_FILE;
	return UBD_TAKEN_NOT;
}
