package ottla.compat;

/** One thing a stock client must be able to do with a node. It fails by throwing. */
@FunctionalInterface
interface Scenario {
    void run(Node node) throws Exception;
}
