/* SPDX-License-Identifier: MIT */
/* How an engine starts, drains, is aborted, stalls and is closed: engine/{stream,worker,answers,governor,engine}.c, with
 * every interleaving of their steps. Memory orders are not its subject: see memory.h. The events are engine/wait.h's:
 * prepare, look again, sleep unless the epoch has moved; notify wakes one sleeper, notify_all all.
 *
 * Set by -D: FRAMES, SLOTS (capacity, backpressure), WORKERS, and
 *   ABORT  1: somebody finishes the engine at any moment, and the puller may leave with answers still inside
 *   STALL  1: one visit may never end; 2: one visit may end only after the watchdog has spoken, or at close
 *   BREAK  1 .. 6: one notification is left out; spin must find what that breaks
 *
 * Promises: no process is stuck for ever (a stuck visit excepted: then the verdict was heard); what was pushed is answered
 * once, in order; pull says EOF when all is pulled and not before; close returns. No cycle exists at all (checked by
 * non-progress), so "not stuck" is "ends". */
#ifndef FRAMES
#define FRAMES 3
#define SLOTS 2
#define WORKERS 2
#define ABORT 0
#define STALL 0
#endif
#ifndef BREAK
#define BREAK 0
#endif
#define GROUPS 2
#define NOBODY 255

/* ---- Events ----
 * Each party sleeps on one event: workers (0 .. WORKERS-1) on `work`, the pusher on `room`, the puller on `answered`. What a
 * notification changes for a party is all there is to know of epochs and counts. */
#define PUSHER WORKERS
#define PULLER (WORKERS + 1)
#define PARTIES (WORKERS + 2)
#define OUT 0    /* not registered */
#define IN 1     /* between prepare and wait */
#define MOVED 2  /* the same, and the epoch has moved: will not sleep */
#define ASLEEP 3
byte at[PARTIES];

#define prepare(me) at[me] = IN
#define cancel(me) at[me] = OUT
#define move(p) if :: at[p] == IN -> at[p] = MOVED :: else fi
inline wait(me) {
    atomic { if :: at[me] == IN -> at[me] = ASLEEP :: else -> at[me] = OUT fi }
    at[me] == OUT
}
inline notify_one(p) { d_step { if :: at[p] == IN -> at[p] = MOVED :: at[p] == ASLEEP -> at[p] = OUT :: else fi } }
inline notify_room() { notify_one(PUSHER) }
inline notify_answered() { notify_one(PULLER) }
#if WORKERS == 1
inline notify_work() { notify_one(0) }
inline notify_all_work() { notify_one(0) }
#define worker_waits (at[0] != OUT)
#else
inline notify_work() { /* wakes one, any */
    atomic {
        move(0);
        move(1);
        if
        :: at[0] == ASLEEP -> at[0] = OUT
        :: at[1] == ASLEEP -> at[1] = OUT
        :: else
        fi
    }
}
inline notify_all_work() { notify_one(0); notify_one(1) }
#define worker_waits (at[0] != OUT || at[1] != OUT)
#endif

/* ---- The engine ---- */
chan free = [SLOTS] of { byte };
chan queue[GROUPS] = [SLOTS] of { byte };
byte seq_of[SLOTS];
byte window[SLOTS]; /* slot + 1 */
byte tickets;
bool finished, stop, pusher_ended, puller_ended, closed;
byte n_ended;          /* workers joined */

byte stuck = NOBODY;   /* the worker inside a visit that is too long */
bool stall_spent;
bool stalled;          /* the watchdog's verdict */
bool verdict_heard;

/* ---- Ghosts: what the promises are about ---- */
byte n_answered[FRAMES];
byte n_pulled;

/* ees_engine_finish(), from a signal handler as well */
inline finish() {
    finished = true;
#if BREAK != 1
    notify_room();
#endif
#if BREAK != 2
    notify_answered();
#endif
    skip
}

inline slot_free(slot) {
    free!slot;
    notify_room()
}

proctype Pusher() {
    byte slot, n;
next: /* wait_for() */
    if
    :: n == FRAMES -> goto over
    :: n < FRAMES
    fi;
    if
    :: atomic { finished -> goto over }
    :: atomic { !finished -> skip }
    fi;
    if
    :: atomic { free?slot -> goto got }
    :: atomic { empty(free) -> skip }
    fi;
    if
    :: atomic { stalled -> goto over } /* EES_ESTALLED: the source gives up */
    :: atomic { !stalled -> prepare(PUSHER) }
    fi;
    if
    :: atomic { free?slot -> cancel(PUSHER); goto got }
    :: atomic { empty(free) -> skip }
    fi;
    if
    :: atomic { finished || stalled -> cancel(PUSHER); goto next }
    :: atomic { !(finished || stalled) -> skip }
    fi;
    wait(PUSHER);
    goto next;
got: /* draw_ticket(): one word holds the count and the flag */
    if
    :: atomic { finished -> skip };
        slot_free(slot);
        goto over
    :: atomic { !finished -> seq_of[slot] = tickets; tickets++ };
        queue[0]!slot;
        notify_work();
        atomic { slot = 0; n++; goto next }
    fi;
over: /* the end of the source */
    finish();
    pusher_ended = true
}

proctype Worker(byte me) {
    byte slot, group;
    bool registered;
look: /* take(): own group first. A queue seen empty, or the stop flag, is seen at its own moment. */
    if
    :: atomic { queue[me % GROUPS]?slot -> group = me % GROUPS; goto taken }
    :: atomic { empty(queue[me % GROUPS]) -> skip }
    fi;
    if
    :: atomic { queue[1 - me % GROUPS]?slot -> group = 1 - me % GROUPS; goto taken }
    :: atomic { empty(queue[1 - me % GROUPS]) -> skip }
    fi;
    if
    :: atomic { !registered -> prepare(me); registered = true; goto look }
    :: registered
    fi;
    if
    :: atomic { stop -> cancel(me); goto over }
    :: atomic { !stop -> registered = false }
    fi;
    atomic { if :: at[me] == IN -> at[me] = ASLEEP :: else -> at[me] = OUT fi }
endasleep: /* where a process may exit after the watchdog's verdict; close() would miss the worker in n_ended */
    at[me] == OUT;
    goto look;
taken:
    if
    :: atomic { worker_waits && len(queue[0]) + len(queue[1]) > 0 -> skip }; notify_work()
    :: atomic { !(worker_waits && len(queue[0]) + len(queue[1]) > 0) -> skip }
    fi;
    if
    :: atomic { registered -> cancel(me); registered = false }
    :: !registered
    fi;
    /* visit() */
#if STALL > 0
    if
    :: atomic { !stall_spent -> stall_spent = true; stuck = me };
endstuck:
        atomic { STALL == 2 && (stalled || stop) -> stuck = NOBODY }
    :: true
    fi;
#endif
    if
    :: atomic { group == 0 -> queue[1]!slot; slot = 0; group = 0 }; /* on */
        notify_work()
    :: d_step { /* an exit, or the end: ees__answer() */
            assert(window[seq_of[slot] % SLOTS] == 0);
            window[seq_of[slot] % SLOTS] = slot + 1;
            n_answered[seq_of[slot]]++;
            assert(n_answered[seq_of[slot]] == 1);
            slot = 0;
            group = 0
        };
#if BREAK != 3
        notify_answered()
#endif
    fi;
    if
    :: atomic { !stop -> goto look }
    :: atomic { stop -> skip }
    fi;
over:
    n_ended++
}

/* next_answer(): EAGAIN, an answer, EOF or STALLED */
#define EAGAIN 0
#define ANSWER 1
#define END 2
#define STALLED 3
inline next_answer(rc, slot) {
    if
    :: d_step { window[n_pulled % SLOTS] != 0 ->
            slot = window[n_pulled % SLOTS] - 1;
            window[n_pulled % SLOTS] = 0;
            assert(seq_of[slot] == n_pulled && n_answered[n_pulled] == 1);
            n_pulled++;
            rc = ANSWER }
    :: atomic { window[n_pulled % SLOTS] == 0 -> skip };
        if
        :: atomic { finished && tickets == n_pulled -> rc = END }
        :: atomic { !(finished && tickets == n_pulled) -> skip };
            if
            :: atomic { stalled -> rc = STALLED }
            :: atomic { !stalled -> rc = EAGAIN }
            fi
        fi
    fi
}

proctype Puller() {
    byte slot, rc;
pull:
    next_answer(rc, slot);
again:
    if
    :: rc == EAGAIN -> skip
    :: rc != EAGAIN -> goto told
    fi;
    prepare(PULLER);
    next_answer(rc, slot);
    if
    :: atomic { rc != EAGAIN -> cancel(PULLER); goto told }
    :: rc == EAGAIN
    fi;
    wait(PULLER);
    next_answer(rc, slot);
    goto again;
told:
    if
    :: rc == ANSWER ->
        slot_free(slot);
        slot = 0;
        if
        :: goto pull
        :: atomic { ABORT && finished -> goto over } /* a second signal: answers may stay inside */
        fi
    :: rc == END ->
        assert(finished && n_pulled == tickets);
        goto over
    :: rc == STALLED ->
        if
        :: verdict_heard = true; /* the command prints its table and exits with 7; whoever pushes is told */
            finish();
            goto over
        :: atomic { STALL == 2 && !stalled -> goto pull } /* patience: goes on when the worker does */
        fi
    fi;
over:
    puller_ended = true
}

/* The watchdog's part of the governor: what it sees at its next tick, whenever that is. */
proctype Governor() {
end:
    do
    :: stop -> break
    :: atomic { !stop && stuck != NOBODY && !stalled -> stalled = true };
#if BREAK != 4
        notify_answered();
#endif
#if BREAK != 5
        notify_room()
#endif
    :: atomic { !stop && stuck == NOBODY && stalled -> stalled = false }; notify_answered(); notify_room()
    od
}

#if ABORT
/* A signal: ends the stream at any moment, or comes when all is over. */
proctype Aborter() { finish() }
#endif

init {
    byte i;
    atomic {
        for (i : 0 .. SLOTS - 1) { free!i }
        for (i : 0 .. WORKERS - 1) { run Worker(i) }
        run Governor();
        run Pusher();
        run Puller();
#if ABORT
        run Aborter()
#endif
    }
    /* ees_engine_close(), when nobody uses the engine any more. After the verdict of a visit that never ends the process
     * exits instead: a stuck thread cannot be joined. */
    pusher_ended && puller_ended;
    if
    :: STALL == 1 && verdict_heard && stuck != NOBODY -> skip
    :: else ->
        stop = true;
#if BREAK != 6
        notify_all_work();
#endif
        n_ended == WORKERS
    fi;
    closed = true;
    assert(ABORT || verdict_heard || (n_pulled == FRAMES && tickets == FRAMES) || stall_spent)
}
