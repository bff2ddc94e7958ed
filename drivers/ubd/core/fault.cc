// SPDX-License-Identifier: GPL-2.0-only
#include "fault.hh"

namespace ubd
{
namespace
{

struct Words {
	const char *at;
	size_t left;

	// The next word; false at the end.
	bool next(const char *&word, size_t &n)
	{
		while (left && (*at == ' ' || *at == '\n' || *at == '\t'))
			at++, left--;
		word = at;
		n = 0;
		while (left && *at != ' ' && *at != '\n' && *at != '\t')
			at++, left--, n++;
		return n;
	}
};

bool equal(const char *word, size_t n, const char *text)
{
	return n == __builtin_strlen(text) && __builtin_memcmp(word, text, n) == 0;
}

// "<key>=<number>"
bool number_after(const char *word, size_t n, const char *key, u64 &out)
{
	size_t k = __builtin_strlen(key);
	if (n <= k + 1 || n > k + 10 || __builtin_memcmp(word, key, k) != 0 || word[k] != '=')
		return false;
	u64 v = 0;
	for (size_t i = k + 1; i < n; i++) {
		if (word[i] < '0' || word[i] > '9')
			return false;
		v = v * 10 + static_cast<u64>(word[i] - '0');
	}
	out = v;
	return true;
}

bool parse_operation(const char *word, size_t n, FaultRule &rule)
{
	static constexpr const char *names[] = { "read", "write", "write_sync", "sync", "punch", "zero" };
	for (u8 i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (equal(word, n, names[i])) {
			rule.op = static_cast<HostOp>(i);
			return true;
		}
	rule.any = equal(word, n, "any");
	rule.on_submit = equal(word, n, "submit");
	return rule.any || rule.on_submit;
}

bool parse_effect(const char *word, size_t n, FaultRule &rule)
{
	u64 number = 0;
	if (number_after(word, n, "errno", number) && number && number < 4096) {
		rule.effect = FaultRule::Effect::fail;
		rule.error = static_cast<int>(number);
	} else if (equal(word, n, "short")) {
		rule.effect = FaultRule::Effect::cut;
	} else if (equal(word, n, "drop")) {
		rule.effect = FaultRule::Effect::drop;
	}
	return rule.effect != FaultRule::Effect::none && !(rule.on_submit && rule.effect != FaultRule::Effect::fail);
}

} // namespace

Error FaultRule::parse(const char *text, size_t bytes, FaultRule &out)
{
	Words words{ text, bytes };
	const char *w;
	size_t n;
	FaultRule rule;
	if (!words.next(w, n))
		return Error{ errno_inval };
	if (equal(w, n, "off")) {
		out = rule;
		return words.next(w, n) ? Error{ errno_inval } : no_error;
	}
	if (!parse_operation(w, n, rule) || !words.next(w, n) || !parse_effect(w, n, rule))
		return Error{ errno_inval };
	while (words.next(w, n))
		if (!number_after(w, n, "every", rule.every) && !number_after(w, n, "times", rule.times) &&
		    !number_after(w, n, "after", rule.after))
			return Error{ errno_inval };
	if (!rule.every)
		return Error{ errno_inval };
	out = rule;
	return no_error;
}

void FaultEngine::set(const FaultRule &rule)
{
	rule_ = rule;
	seen_ = 0;
	hits_ = 0;
	// What was held back is tried again.
	while (!dropped_.empty()) {
		dropped_.front()->injected = errno_again;
		failed_.push(dropped_.pop());
	}
}

bool FaultEngine::hit(bool submitting, HostOp op)
{
	if (rule_.effect == FaultRule::Effect::none || rule_.on_submit != submitting)
		return false;
	if (!submitting && !rule_.any && rule_.op != op)
		return false;
	u64 n = seen_++;
	if (n < rule_.after || (n - rule_.after) % rule_.every || hits_ >= rule_.times)
		return false;
	hits_++;
	return true;
}

// As if the host had transferred only half: the rest is asked for again.
void FaultEngine::shorten(Completion &c)
{
	if (!c.chunk->cut)
		return;
	c.chunk->cut = false;
	if (c.result > UBD_SECTOR_SIZE)
		c.result = (c.result / 2 + UBD_SECTOR_SIZE - 1) & ~(UBD_SECTOR_SIZE - 1);
}

void FaultEngine::prepare(Chunk &chunk)
{
	if (!hit(false, chunk.op))
		return inner_.prepare(chunk);
	switch (rule_.effect) {
	case FaultRule::Effect::drop:
		dropped_.push(chunk);
		return;
	case FaultRule::Effect::cut:
		chunk.cut = moves_data(chunk.op);
		return inner_.prepare(chunk);
	default:
		chunk.injected = rule_.error;
		failed_.push(chunk);
		return;
	}
}

Error FaultEngine::submit()
{
	if (hit(true, HostOp::read))
		return Error{ rule_.error };
	return inner_.submit();
}

u32 FaultEngine::reap(Completion *to, u32 max)
{
	u32 n = 0;
	while (n < max && !failed_.empty()) {
		Chunk &chunk = failed_.pop();
		to[n++] = Completion{ &chunk, -chunk.injected };
	}
	u32 real = n < max ? inner_.reap(to + n, max - n) : 0;
	for (u32 i = n; i < n + real; i++)
		shorten(to[i]);
	return n + real;
}

bool FaultEngine::listen()
{
	return inner_.listen() || !failed_.empty();
}

bool FaultEngine::cancel(Chunk &chunk)
{
	for (Chunk *c = dropped_.front(); c; c = c->next)
		if (c == &chunk)
			return true;
	return inner_.cancel(chunk);
}

void FaultEngine::wait()
{
	if (failed_.empty())
		inner_.wait();
}

} // namespace ubd
